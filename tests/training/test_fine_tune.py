"""Training on tones: it learns, it is the same recipe at any micro-batch, and it goes on."""

import csv
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from dvclive import Live

from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from genrepro.encoding.parts import read_parts
from genrepro.encoding.store import Encoded, write_index, write_shard
from genrepro.model import backbone, device
from genrepro.model.inference import segment_logits
from genrepro.training import fine_tune, frozen
from genrepro.training.data import Collator
from genrepro.training.trainer import ClipTrainer
from tests.support.samples import RATE, ROOT, tiny_backbone, tone

PARAMS = load(ROOT / "params.yaml")
PITCHES = {"low": 220, "middle": 880, "high": 3520}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return corpus("ast", tmp_path_factory.mktemp("made"))


def corpus(kind: str, folder: Path):
    """An encoded corpus of 36 tones with its split and backbone."""
    extractor = adapt(
        load_extractor(tiny_backbone(kind, folder)), PARAMS.encode, longest_seconds=0.6
    )
    rows, split = [], []
    for label, pitch in PITCHES.items():
        for number in range(12):
            wave = tone(pitch * (1 + number / 50), 0.6, seed=number)
            clip = f"{label}.{number:02d}"
            rows += [(clip, n, one) for n, one in enumerate(extract_segments(extractor, wave))]
            part = "test" if number == 0 else "validation" if number < 4 else "train"
            split.append((clip, label, part))
    shard = folder / "data-00000-of-00001.arrow"
    write_shard(shard, rows, "input_values", rows[0][2].ndim)
    write_index(folder, [shard])
    with (folder / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("clip", "label", "split"), *split])
    return folder, extractor


def train(made, where, epochs=4, rate=3e-3, stop_after=None, **changed):
    folder, extractor = made
    recipe = PARAMS.train.model_copy(update={"epochs": epochs, "device": "cpu", **changed})
    encoded = Encoded.open(folder)
    parts, labels = read_parts(folder / "split.csv", encoded)
    model, _ = backbone.build(folder, labels, extractor, recipe, 42)
    live = Live(str(where / "curves"), dvcyaml=None, save_dvc_exp=False)
    where.mkdir(exist_ok=True)
    with frozen.cached_outputs(model, encoded, parts, recipe, where / "front") as segments:
        outcome = fine_tune.fine_tune(
            model, segments, recipe, rate, 42, where / "checkpoints", live
        )
    live.end()
    return model, outcome


def weights(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.fixture(scope="module")
def uninterrupted(made, tmp_path_factory):
    where = tmp_path_factory.mktemp("uninterrupted")
    return *train(made, where), where


def test_it_learns_pitch(uninterrupted):
    _, outcome, _ = uninterrupted
    assert outcome.accuracy >= 0.8 and outcome.by == "epoch" and 1 <= outcome.kept <= 4


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_model_that_is_left_is_that_of_the_epoch_to_keep(made, tmp_path, keep):
    """The rate is so high that the last epoch is not the best."""
    model, outcome = train(made, tmp_path, rate=1.0, epochs=4, warmup=0.0, keep=keep)
    assert (outcome.kept == 4) == (keep == "last")
    folder, _ = made
    encoded = Encoded.open(folder)
    part = read_parts(folder / "split.csv", encoded)[0]["validation"]
    logits = torch.from_numpy(segment_logits(model, [encoded[row] for row in part.rows], 9))
    targets = torch.tensor(part.targets)
    assert torch.nn.functional.cross_entropy(logits, targets).item() == pytest.approx(outcome.loss)
    assert (logits.argmax(dim=1) == targets).float().mean().item() == pytest.approx(
        outcome.accuracy
    )


def test_the_curves_have_one_step_an_epoch_and_training_beside_validation(uninterrupted):
    _, _, where = uninterrupted
    for name in ("train/loss", "train/learning_rate", "validation/loss", "validation/accuracy"):
        with (where / f"curves/plots/metrics/{name}.tsv").open() as file:
            assert [int(row["step"]) for row in csv.DictReader(file, delimiter="\t")] == [
                1,
                2,
                3,
                4,
            ]


def test_the_same_run_gives_the_same_bytes(made, uninterrupted, tmp_path):
    assert torch.equal(weights(train(made, tmp_path)[0]), weights(uninterrupted[0]))


@pytest.mark.parametrize("batch_size", [4, 1])
def test_a_smaller_batch_on_the_device_is_the_same_recipe(
    made, uninterrupted, tmp_path, batch_size
):
    model, outcome = train(made, tmp_path, batch_size=batch_size)
    assert outcome.kept == uninterrupted[1].kept
    assert outcome.loss == pytest.approx(uninterrupted[1].loss, abs=1e-3)
    assert torch.allclose(weights(model), weights(uninterrupted[0]), atol=1e-3)


@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_stopped_by_a_signal_it_goes_on_to_the_same_bytes(
    made, uninterrupted, tmp_path, monkeypatch, step
):
    preempted(monkeypatch, made, tmp_path, step)
    model, outcome = train(made, tmp_path)
    assert outcome == uninterrupted[1]
    assert torch.equal(weights(model), weights(uninterrupted[0]))
    for curve in (tmp_path / "curves/plots/metrics").rglob("*.tsv"):
        relative = curve.relative_to(tmp_path)
        assert curve.read_bytes() == (uninterrupted[2] / relative).read_bytes(), relative


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "computed again"])
def test_dropout_and_dropped_layers_go_on_where_they_stopped(tmp_path, monkeypatch, checkpointing):
    made = corpus("hubert", tmp_path)
    recipe = {"epochs": 2, "gradient_checkpointing": checkpointing}
    uninterrupted, _ = train(made, tmp_path / "uninterrupted", **recipe)
    assert uninterrupted.config.attention_dropout and uninterrupted.config.layerdrop
    preempted(monkeypatch, made, tmp_path / "interrupted", 1, **recipe)
    resumed, _ = train(made, tmp_path / "interrupted", **recipe)
    assert torch.equal(weights(resumed), weights(uninterrupted))


def preempted(monkeypatch, made, where, step: int, **recipe) -> None:
    """Train until SIGTERM comes at an optimizer step."""

    class Preempted(fine_tune.StopOnSignal):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == step:
                signal.raise_signal(signal.SIGTERM)
            return super().on_step_end(args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(training, "StopOnSignal", Preempted)
        with pytest.raises(PipelineError, match="SIGTERM received"):
            train(made, where, **recipe)


def test_a_checkpoint_that_was_cut_while_it_was_written_is_passed_over(tmp_path):
    for step, state in ((3, "{}"), (12, "{}"), (15, '{"cut'), (18, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}/trainer_state.json").write_text(state)
    assert fine_tune.last_checkpoint(tmp_path).name == "checkpoint-12"
    assert fine_tune.last_checkpoint(tmp_path / "none") is None


def test_early_stopping_ends_when_validation_no_longer_improves(made, tmp_path):
    train(made, tmp_path, epochs=9, rate=1e-12, early_stopping=2)
    with (tmp_path / "curves/plots/metrics/validation/loss.tsv").open() as file:
        assert len(list(csv.DictReader(file, delimiter="\t"))) < 9


def test_epochs_that_are_as_accurate_are_told_apart_by_loss_and_never_beat_one_clip_more(
    made, tmp_path, monkeypatch
):
    """Of nine clips one is missed and the others are sure; none is missed, by a little; by less."""
    right = np.eye(3)[np.repeat([0, 1, 2], 3)]
    one_missed = 9 * right
    one_missed[0] = [0.0, 0.1, 0.0]
    heard = [one_missed, 0.2 * right, 0.1 * right]
    for order in ([0, 1, 2], [2, 1, 0]):
        said = iter([heard[which].astype(np.float32) for which in order])
        monkeypatch.setattr(ClipTrainer, "_validation_logits", lambda _, said=said: next(said))
        _, outcome = train(made, tmp_path / str(order), epochs=3)
        assert (outcome.kept, outcome.accuracy) == (1 + order.index(1), 1.0)


def test_unequal_waveforms_are_padded_and_masked_and_equal_ones_are_not():
    collate = Collator("input_values")
    long, short = np.ones(10, np.float16), np.ones(7, np.float16)
    batch = collate([(long, 10, 0), (short, 7, 1)])
    assert batch["input_values"].dtype == torch.float32
    assert batch["input_values"].sum(dim=1).tolist() == [10, 7]
    assert batch["attention_mask"].sum(dim=1).tolist() == [10, 7]
    assert batch["labels"].tolist() == [0, 1]
    assert "attention_mask" not in collate([(long, 10, 0), (long, 10, 1)])


def test_memory_that_runs_out_is_one_sentence_with_what_to_type(made, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(ClipTrainer, "training_step", full)
    with pytest.raises(PipelineError, match=r"-S train\.batch_size=4"):
        train(made, tmp_path)
    with pytest.raises(PipelineError, match="gradient_checkpointing"):
        train(made, tmp_path, batch_size=1)


def test_a_gpu_that_is_asked_for_and_not_there_is_said():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(PipelineError, match="sees no GPU"):
        device.choose_device(PARAMS.train.model_copy(update={"device": "cuda"}))


@pytest.mark.parametrize("forced", ["fp16", "bf16", "none"])
def test_precision_can_be_forced_and_is_none_on_a_cpu(forced):
    train_params = PARAMS.train.model_copy(update={"precision": forced})
    assert device.choose_precision(train_params, "cpu") == forced
    assert device.choose_precision(PARAMS.train, "cpu") == "none"


def test_tones_are_at_the_rate_that_backbones_hear():
    assert load_extractor(ROOT / "backbones/tiny-ast").sampling_rate == RATE
