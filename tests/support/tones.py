"""A corpus of tones of three pitches, and a run of training on it."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import pytest
import torch
from dvclive import Live

from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from genrepro.encoding.parts import read_parts
from genrepro.encoding.store import Encoded, write_index, write_shard
from genrepro.model import backbone, device
from genrepro.training import fine_tune, frozen
from genrepro.training.callbacks import Checkpoints
from tests.support.samples import ROOT, tiny_backbone, tone

PARAMS = load(ROOT / "params.yaml")
PITCHES = {"low": 220, "middle": 880, "high": 3520}
CHANGED = {"augment": ["shift", "gain", "noise", "band_limit", "mixup"], "epochs": 2}
CHANGED |= {"spec_augment": True}


def corpus(kind: str, folder: Path, seconds=(0.6,)):
    """An encoded corpus of 36 tones with its split and backbone."""
    extractor = adapt(
        load_extractor(tiny_backbone(kind, folder)), PARAMS.encode, longest_seconds=max(seconds)
    )
    rows, split = [], []
    for label, pitch in PITCHES.items():
        for number in range(12):
            length = seconds[number % len(seconds)]
            wave = tone(pitch * (1 + number / 50), length, seed=number)
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
    device.set_up(recipe)
    encoded = Encoded.open(folder)
    parts, labels = read_parts(folder / "split.csv", encoded)
    model, _ = backbone.build(folder, labels, extractor, recipe, 42)
    live = Live(str(where / "curves"), dvcyaml=None, save_dvc_exp=False)
    where.mkdir(exist_ok=True)
    with frozen.cached_outputs(model, encoded, parts, recipe, where / "frozen") as segments:
        outcome = fine_tune.fine_tune(
            model, extractor, segments, recipe, rate, 42, where / "checkpoints", live
        )
    live.end()
    return model, outcome


def weights(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().cpu() for parameter in model.parameters()])


def last_value(where: Path, name: str) -> float:
    with (where / f"curves/plots/metrics/{name}.tsv").open() as file:
        return float([*csv.DictReader(file, delimiter="\t")][-1][name.split("/")[1]])


def preempted(monkeypatch, made, where, step: int, **recipe) -> None:
    """Train until SIGTERM comes at an optimizer step."""

    class Preempted(Checkpoints):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == step:
                signal.raise_signal(signal.SIGTERM)
            return super().on_step_end(args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(fine_tune, "Checkpoints", Preempted)
        with pytest.raises(PipelineError, match="SIGTERM received"):
            train(made, where, **recipe)
