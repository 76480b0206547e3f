"""Training on tones: it learns, keeps the right epoch, and is the same at any batch size."""

import csv
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genrepro.core.errors import PipelineError
from genrepro.encoding.extractor import load_extractor
from genrepro.encoding.parts import read_parts
from genrepro.encoding.store import Encoded
from genrepro.model import backbone
from genrepro.model.inference import segment_logits
from genrepro.training import fine_tune
from genrepro.training.data import IGNORED
from genrepro.training.trainer import ClipTrainer
from tests.support.samples import RATE, ROOT
from tests.support.tones import CHANGED, PARAMS, corpus, last_value, train, weights


def test_it_learns_pitch(uninterrupted):
    _, outcome, _ = uninterrupted
    assert outcome.accuracy >= 0.8 and outcome.by == "epoch" and 1 <= outcome.kept <= 4


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_model_afterwards_is_that_of_the_epoch_to_keep(made, tmp_path, keep):
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


def test_the_curves_have_one_step_per_epoch_with_training_beside_validation(uninterrupted):
    _, outcome, where = uninterrupted
    curves = {}
    for name in ("train/loss", "train/learning_rate", "validation/loss", "validation/accuracy"):
        with (where / f"curves/plots/metrics/{name}.tsv").open() as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
        curves[name] = [float(row[name.split("/")[1]]) for row in rows]
    del curves["train/learning_rate"]
    for epoch, *figures in zip([1, 2, 3, 4], *curves.values()):
        assert outcome.curve[epoch - 1] == pytest.approx((epoch, *figures), abs=1e-6)


def test_a_float64_run_stays_in_float64_until_it_is_loaded_again(made, tmp_path):
    model, _ = train(made, tmp_path, epochs=1, precision="fp64", class_weights="balanced")
    segments = [Encoded.open(made[0])[0]]
    logits = segment_logits(model, segments, 1)
    assert logits.dtype == np.float64
    model.save_pretrained(tmp_path / "saved")
    loaded = backbone.load(tmp_path / "saved")
    assert loaded.dtype == torch.float64
    assert np.array_equal(segment_logits(loaded, segments, 1), logits)


@pytest.mark.parametrize(
    ("where", "model", "batch"),
    [
        ("cpu", torch.float32, torch.float32),
        ("cpu", torch.float64, torch.float64),
        ("cuda", torch.float32, torch.float16),  # copied faster, and float32 again on the GPU
        ("cuda", torch.float64, torch.float64),
    ],
)
def test_batches_fit_the_models_precision(where, model, batch):
    config = SimpleNamespace(feat_extract_norm="group")
    backbone = SimpleNamespace(config=config, dtype=model, main_input_name="input_values")
    collate = fine_tune._collator(backbone, SimpleNamespace(lengths=None), where, None)
    assert collate.dtype == batch


def test_the_same_run_gives_the_same_bytes(made, uninterrupted, tmp_path):
    assert torch.equal(weights(train(made, tmp_path)[0]), weights(uninterrupted[0]))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [4, 1])
def test_a_smaller_batch_size_is_the_same_recipe(made, uninterrupted, tmp_path, batch_size):
    model, outcome = train(made, tmp_path, batch_size=batch_size)
    assert outcome.kept == uninterrupted[1].kept
    assert outcome.loss == pytest.approx(uninterrupted[1].loss, abs=1e-3)
    assert torch.allclose(weights(model), weights(uninterrupted[0]), atol=1e-3)


def test_changed_segments_differ_and_the_smaller_batch_is_still_the_same_recipe(
    made, changed, uninterrupted, tmp_path
):
    """Trainer counts the shares of mixed labels as items of a batch; the loss is per segment."""
    assert not torch.equal(weights(changed[0]), weights(uninterrupted[0]))
    _, outcome = train(made, tmp_path, **CHANGED, batch_size=8)
    assert outcome.loss == pytest.approx(changed[1].loss, abs=1e-3)
    rates = [last_value(where, "train/loss") for where in (tmp_path, changed[2])]
    assert rates[0] == pytest.approx(rates[1], abs=1e-3)


def test_validation_never_changes(made, tmp_path, monkeypatch):
    folder, _ = made
    encoded, seen = Encoded.open(folder), []

    def remember(model, segments, batch_size):
        seen.extend(segments)
        return segment_logits(model, segments, batch_size)

    monkeypatch.setattr("genrepro.training.trainer.segment_logits", remember)
    train(made, tmp_path, **CHANGED)
    rows = read_parts(folder / "split.csv", encoded)[0]["validation"].rows * 2
    assert all(np.array_equal(one, encoded[row]) for one, row in zip(seen, rows, strict=True))


def test_the_loss_of_mixed_labels_is_that_of_each_by_its_share(unequal, tmp_path):
    """Also with weights and smoothing; a filler, all of whose shares are IGNORED, adds nothing."""
    folder, _ = unequal
    recipe = PARAMS.train.model_copy(update={"class_weights": "balanced", "label_smoothing": 0.1})
    part = read_parts(folder / "split.csv", Encoded.open(folder))[0]["train"]
    weight = torch.tensor([17 / 3 / count for count in torch.bincount(torch.tensor(part.targets))])
    stand_in = SimpleNamespace(class_weights=weight, recipe=recipe)
    outputs = SimpleNamespace(logits=torch.randn(4, 3))
    one, two = torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0])
    share = torch.tensor([0.7, 0.5, 0.9])
    shares = torch.full((4, 3), float(IGNORED))
    shares[:3] = torch.nn.functional.one_hot(one, 3) * share[:, None]
    shares[:3] += torch.nn.functional.one_hot(two, 3) * (1 - share[:, None])

    def loss(labels):
        return torch.nn.functional.cross_entropy(
            outputs.logits[:3], labels, weight=weight, label_smoothing=0.1, reduction="none"
        )

    expected = (share * loss(one) + (1 - share) * loss(two)).sum() / 3
    found = ClipTrainer._loss(stand_in, outputs, shares, num_items_in_batch=torch.tensor(9))
    torch.testing.assert_close(found, expected)


def test_equally_accurate_epochs_are_ranked_by_loss_and_never_beat_one_more_correct_clip(
    made, tmp_path, monkeypatch
):
    """One of nine clips is wrong and the rest are confident; all are right, narrowly, or less."""
    right = np.eye(3)[np.repeat([0, 1, 2], 3)]
    one_wrong = 9 * right
    one_wrong[0] = [0.0, 0.1, 0.0]
    epochs = [one_wrong, 0.2 * right, 0.1 * right]
    for order in ([0, 1, 2], [2, 1, 0]):
        logits = iter([epochs[which].astype(np.float32) for which in order])
        monkeypatch.setattr(ClipTrainer, "_validation_logits", lambda _, it=logits: next(it))
        _, outcome = train(made, tmp_path / str(order), epochs=3)
        assert (outcome.kept, outcome.accuracy) == (1 + order.index(1), 1.0)


def test_balanced_weights_count_all_labels_alike(unequal, tmp_path):
    folder, extractor = unequal
    encoded = Encoded.open(folder)
    parts, labels = read_parts(folder / "split.csv", encoded)
    model, _ = backbone.build(folder, labels, extractor, PARAMS.train, 42)
    logits = segment_logits(model, [encoded[row] for row in parts["train"].rows], 9)
    targets = torch.tensor(parts["train"].targets)
    assert torch.bincount(targets).tolist() == [8, 1, 8]
    losses = torch.nn.functional.cross_entropy(torch.tensor(logits), targets, reduction="none")
    by_label = [losses[targets == label].mean().item() for label in range(3)]
    whole = {"batch_size": 17, "effective_batch_size": 17}
    train(unequal, tmp_path, epochs=1, rate=1e-12, class_weights="balanced", **whole)
    assert last_value(tmp_path, "train/loss") == pytest.approx(np.mean(by_label), abs=1e-5)
    assert abs(np.mean(by_label) - losses.mean().item()) > 1e-3


def test_macro_f1_is_shown_where_labels_are_unequal(unequal, made, tmp_path, capsys):
    _, outcome = train(unequal, tmp_path / "unequal", epochs=1)
    assert f"macro F1 {outcome.macro_f1:.3f}" in capsys.readouterr().out
    assert last_value(tmp_path / "unequal", "validation/macro_f1") == pytest.approx(
        outcome.macro_f1
    )
    train(made, tmp_path / "equal", epochs=1)
    assert "macro F1" not in capsys.readouterr().out
    assert not (tmp_path / "equal/curves/plots/metrics/validation/macro_f1.tsv").exists()


@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_diverging_run_ends_in_that_epoch_with_what_to_try(made, tmp_path, monkeypatch, where):
    steps = []

    def diverge(self, outputs, labels, num_items_in_batch=None):
        steps.append(len(steps))
        return outputs.logits.sum() * float("nan" if len(steps) == 5 else 1)

    if where == "training":
        monkeypatch.setattr(ClipTrainer, "_loss", diverge)
    else:
        logits = iter([np.zeros((9, 3), np.float32), np.full((9, 3), np.nan, np.float32)])
        monkeypatch.setattr(ClipTrainer, "_validation_logits", lambda _: next(logits))
    with pytest.raises(PipelineError, match=r"diverged in epoch 2: .*train\.learning_rate"):
        train(made, tmp_path)
    assert where == "validation" or len(steps) == 5
    assert fine_tune.last_checkpoint(tmp_path / "checkpoints").name == "checkpoint-3"


def test_clips_of_unequal_length_are_trained_on_as_they_are_evaluated(tmp_path, monkeypatch):
    """HuBERT's first layer normalises over time: each clip's logits are those of the clip alone."""
    made = corpus("hubert", tmp_path, seconds=(0.6, 0.45))
    folder, _ = made
    encoded, seen = Encoded.open(folder), {}

    def remember(self, outputs, labels, num_items_in_batch=None):
        seen.setdefault(outputs.logits.shape[0], outputs.logits.detach())
        return outputs.logits.sum() * 0

    monkeypatch.setattr(ClipTrainer, "_loss", remember)
    model, _ = train(made, tmp_path / "run", epochs=1, keep="last", dropout=0.0)
    part = read_parts(folder / "split.csv", encoded)[0]["train"]
    logits = segment_logits(model, [encoded[row] for row in part.rows], 1)
    for received in seen.values():
        for row in received.numpy():
            assert np.abs(logits - row).max(axis=1).min() < 1e-4


MEMORY = [
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronous"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
]


@pytest.mark.parametrize(
    ("at", "error"),
    [("_move_model_to_device", error) for error in MEMORY]
    + [("training_step", MEMORY[-1]), ("evaluate", MEMORY[-1])],
)
def test_running_out_of_gpu_memory_is_one_sentence_with_what_to_type(
    made, tmp_path, monkeypatch, at, error
):
    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(ClipTrainer, at, full)
    with pytest.raises(PipelineError, match=r"-S train\.batch_size=4"):
        train(made, tmp_path)


def test_other_errors_of_pytorch_are_not_taken_for_it(made, tmp_path, monkeypatch):
    def wrong(*args, **kwargs):
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")

    monkeypatch.setattr(ClipTrainer, "training_step", wrong)
    with pytest.raises(RuntimeError, match="must match"):
        train(made, tmp_path)


def test_what_accelerate_launch_sets_changes_nothing(made, uninterrupted, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "inductor")
    model, _ = train(made, tmp_path)
    assert torch.equal(weights(model), weights(uninterrupted[0]))
    assert not [name for name in os.environ if name.startswith("ACCELERATE_")]


def test_each_process_draws_masks_and_dropout_of_its_own(made, tmp_path, monkeypatch):
    """SpecAugment draws from NumPy, dropout from PyTorch."""
    drawn = []
    monkeypatch.setattr(
        ClipTrainer, "train", lambda *_, **__: drawn.append((np.random.rand(), torch.rand(1)))
    )
    monkeypatch.setattr(fine_tune, "_outcome", lambda *_: None)
    for rank in range(3):
        monkeypatch.setattr(fine_tune.processes, "rank", lambda rank=rank: rank)
        train(made, tmp_path / str(rank), keep="last")
    assert len({number for number, _ in drawn}) == len({float(each) for _, each in drawn}) == 3


@pytest.mark.parametrize("weighted", [False, True])
def test_params_decide_on_a_weighted_sum_of_layers_whatever_the_checkpoint_says(tmp_path, weighted):
    """With a sum, no layer may be dropped: its output would be missing."""
    made = corpus("hubert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"use_weighted_layer_sum": not weighted, "layerdrop": 0.9}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, _ = train(made, tmp_path / "run", epochs=1, weighted_layer_sum=weighted)
    assert hasattr(model, "layer_weights") == weighted


def test_tones_have_the_sampling_rate_of_the_backbones():
    assert load_extractor(ROOT / "tests/support/tiny-ast").sampling_rate == RATE
