"""The linear probe: its head is the optimum, and the model afterwards has the figures reported."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from dvclive import Live
from scipy.special import log_softmax

from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from genrepro.encoding.parts import Part
from genrepro.encoding.store import Encoded, write_index, write_shard
from genrepro.model import backbone
from genrepro.model.inference import average_segments, segment_logits
from genrepro.training import frozen, probe
from stages import train as stage
from tests.support.samples import ROOT, tiny_backbone, tone

PARAMS = load(ROOT / "params.yaml")
TRAIN = PARAMS.train.model_copy(update={"device": "cpu", "freeze": "backbone", "probe": True})
PITCHES = (220, 880, 3520)
CLIPS = 8  # per label; the last two are for validation


@pytest.fixture(scope="module", params=["hubert", "ast", "whisper"])
def made(request, tmp_path_factory):
    """A frozen backbone and 24 tones of three pitches; every other clip has two segments."""
    folder = tmp_path_factory.mktemp(request.param)
    encode = PARAMS.encode.model_copy(update={"segment_seconds": 1.0})
    extractor = adapt(load_extractor(tiny_backbone(request.param, folder)), encode, 2.0)
    rows = []
    for label, pitch in enumerate(PITCHES):
        for number in range(CLIPS):
            wave = tone(pitch * (1 + number / 40), 1.0 + number % 2, seed=10 * label + number)
            name = f"{label}-{number}"
            rows += [(name, n, one) for n, one in enumerate(extract_segments(extractor, wave))]
    shard = folder / "data-00000-of-00001.arrow"
    write_shard(shard, rows, extractor.model_input_names[0], rows[0][2].ndim)
    write_index(folder, [shard])
    return folder, extractor, Encoded.open(folder)


def part(encoded: Encoded, validation: bool, labels: int) -> Part:
    clips = [f"{label}-{n}" for label in range(labels) for n in range(CLIPS)]
    clips = [clip for clip in clips if (int(clip[2:]) >= CLIPS - 2) == validation]
    rows = [row for row, clip in enumerate(encoded.clip) if clip in clips]
    return Part(
        clips, [int(c[0]) for c in clips], rows, [clips.index(encoded.clip[r]) for r in rows]
    )


def fitted(made, where, labels=3):
    folder, extractor, encoded = made
    names = ["low", "middle", "high"][:labels]
    model, _ = backbone.build(folder, names, extractor, TRAIN, seed=0)
    parts = {"train": part(encoded, False, labels), "validation": part(encoded, True, labels)}
    live = Live(str(where / "curves"), dvcyaml=None, save_dvc_exp=False)
    with frozen.cached_outputs(model, encoded, parts, TRAIN, where / "frozen") as segments:
        outcome = probe.fit(model, segments, "none", live)
    live.end()
    return model.eval(), outcome, parts, encoded


def by_clip(model, part: Part, encoded: Encoded) -> np.ndarray:
    logits = segment_logits(model, [encoded[row] for row in part.rows], 4)
    return average_segments(logits, np.array(part.clip_of))


@pytest.mark.parametrize("labels", [3, 2])
def test_the_model_has_the_figures_that_chose_it(made, tmp_path, labels):
    """Through its own forward pass, from what was encoded."""
    model, outcome, parts, encoded = fitted(made, tmp_path, labels)
    logits = by_clip(model, parts["validation"], encoded)
    targets = np.array(parts["validation"].targets)
    loss = -log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean()
    assert loss == pytest.approx(outcome.loss, abs=2e-3)  # cached outputs are in float16
    assert (logits.argmax(axis=1) == targets).mean() == outcome.accuracy


def test_the_penalty_with_the_lowest_validation_loss_is_kept(made, tmp_path, capsys):
    _, outcome, *_ = fitted(made, tmp_path)
    tried = re.findall(r"penalty +(\S+) .* validation loss (\S+)", capsys.readouterr().out)
    losses = {float(penalty): float(loss) for penalty, loss in tried}
    assert len(losses) >= len(probe.PENALTIES)
    assert outcome.by == "penalty"
    assert losses[round(outcome.kept, 2)] == min(losses.values()) == round(outcome.loss, 3)
    stage._write_curves(outcome, tmp_path / "curves.csv")
    table = pd.read_csv(tmp_path / "curves.csv")
    assert set(table["by"]) == {"penalty"} and table["kept"].sum() == 1
    printed = [float(penalty) for penalty, _ in tried]
    assert table["value"].to_numpy() == pytest.approx(printed, rel=1e-2, abs=0.01)
    kept = table[table["kept"] == 1].iloc[0]
    assert kept["value"] == pytest.approx(outcome.kept, rel=1e-5)
    assert kept["validation_loss"] == table["validation_loss"].min()


def test_weaker_penalties_are_tried_while_they_are_better():
    random = np.random.default_rng(0)
    part = Part([str(n) for n in range(60)], [n % 2 for n in range(60)], [*range(60)], [*range(60)])
    parts = {"train": part, "validation": part}
    noise = random.normal(size=(60, 4))
    separable = noise + 9 * np.array(part.targets)[:, None]
    tried = probe.probes(dict.fromkeys(parts, separable), parts, "none")
    assert len(tried) > len(probe.PENALTIES)
    assert probe.best(tried).penalty < probe.PENALTIES[-1]
    other = {"train": noise, "validation": random.normal(size=(60, 4))}
    tried = probe.probes(other, parts, "none")
    assert len(tried) == len(probe.PENALTIES) and probe.best(tried) is not tried[-1]


def test_balanced_weights_find_more_clips_of_a_rare_label():
    random = np.random.default_rng(0)
    targets = [0] * 90 + [1] * 10
    part = Part([str(n) for n in range(100)], targets, [*range(100)], [*range(100)])
    vectors = random.normal(size=(100, 2)) + 1.5 * np.array(targets)[:, None]
    found = {}
    for weights in ("none", "balanced"):
        tried = probe.probes(
            {"train": vectors, "validation": vectors}, {"train": part, "validation": part}, weights
        )
        head = tried[-1]
        predicted = (vectors @ head.weight.T + head.bias).argmax(axis=1)
        found[weights] = (predicted[90:] == 1).mean()
    assert found["balanced"] > found["none"] + 0.1


def test_a_best_penalty_at_the_end_of_the_grid_is_reported(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(probe, "PENALTIES", (1e4,))
    monkeypatch.setattr(probe, "WEAKER", ())
    fitted(made, tmp_path)
    assert "the best penalty is the strongest one tried" in capsys.readouterr().out


@pytest.mark.slow
def test_no_step_along_the_gradient_improves_the_head(made, tmp_path):
    """At the optimum the gradients of the loss by clip and of the penalty cancel."""
    model, outcome, parts, encoded = fitted(made, tmp_path)
    with frozen.cached_outputs(model, encoded, parts, TRAIN, tmp_path / "frozen") as segments:
        vectors = probe.Head(model).vectors(segments["train"])
    train = parts["train"]
    weights = torch.tensor(1 / np.bincount(train.clip_of)[train.clip_of])
    mean = np.average(vectors, axis=0, weights=weights)
    spread = np.sqrt(np.average((vectors - mean) ** 2, axis=0, weights=weights))
    first = model.projector if hasattr(model, "projector") else model.classifier.dense
    solved = (first.weight.detach().double() * torch.tensor(spread)).requires_grad_()
    bias = first.bias.detach().double() + first.weight.detach().double() @ torch.tensor(mean)
    logits = torch.tensor((vectors - mean) / spread) @ solved.T + bias
    losses = torch.nn.functional.cross_entropy(
        logits, torch.tensor(train.targets)[train.clip_of], reduction="none"
    )
    total = (weights * losses).sum() + outcome.kept / 2 * solved.square().sum()
    total.backward()
    assert solved.grad.abs().max() < 1e-2 * len(train.clips)


@pytest.mark.slow
def test_two_fits_are_equal_to_the_bit(made, tmp_path):
    one, two = (fitted(made, tmp_path / name)[0].state_dict() for name in ("a", "b"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_backbone_is_unchanged_and_the_figures_are_those_of_one_epoch(made, tmp_path):
    model, outcome, *_ = fitted(made, tmp_path)
    folder, extractor, _ = made
    untouched, _ = backbone.build(folder, ["low", "middle", "high"], extractor, TRAIN, seed=0)
    before = untouched.state_dict()
    for name, weight in model.state_dict().items():
        assert name.startswith(backbone.HEAD) or torch.equal(weight, before[name]), name
    written = json.loads((tmp_path / "curves/metrics.json").read_text())
    assert written["step"] == 1
    assert written["validation"]["loss"] == pytest.approx(outcome.loss, abs=1e-6)


def test_a_head_that_is_not_linear_is_refused(made, tmp_path):
    model, *_ = fitted(made, tmp_path)
    model.projector, model.classifier = None, torch.nn.Identity()
    with pytest.raises(PipelineError, match=r"train\.probe.*set it to false"):
        probe.Head(model)
