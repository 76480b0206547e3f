"""What both recipes work on: generated clips, and a backbone of DistilHuBERT's shape.

The weights are random, for the speed does not depend on them.
"""

from __future__ import annotations

import contextlib
import csv
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from transformers import HubertConfig, Wav2Vec2FeatureExtractor

from genrepro.core.files import sha256
from genrepro.core.paths import PARAMS as PARAMS_FILE

RATE = 22_050  # Hz, as GTZAN's: both recipes resample
LABELS = [f"genre{number}" for number in range(10)]
DIFFERENT = 64  # clips with sound of their own; more are links to these
PARAMS = Path(__file__).parents[1] / PARAMS_FILE


@contextlib.contextmanager
def workplace(clips: int, seconds: float) -> Iterator[list[Path]]:
    """Work in a folder that fetch_data and fetch_model would have left, gone afterwards.

    Yields the clips' paths: WAV, 16 bits, 22,050 Hz, mono.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        Path(PARAMS_FILE).write_bytes(PARAMS.read_bytes())
        paths = write_clips(clips, seconds)
        Path("models/backbone").mkdir(parents=True)
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained("models/backbone")
        yield paths


def write_clips(count: int, seconds: float) -> list[Path]:
    """Write data/raw and data/clips.csv in the current folder."""
    rows, paths = [], []
    for number in range(count):
        label = LABELS[number % len(LABELS)]
        path = Path("data/raw", label, f"{label}.{number:05d}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < DIFFERENT:
            soundfile.write(path, sound(number, seconds), RATE, subtype="PCM_16")
            digest = sha256(path)
        else:
            path.hardlink_to(paths[number % DIFFERENT])
            digest = rows[number % DIFFERENT]["sha256"]
        paths.append(path)
        rows.append(
            {"clip": path.stem, "path": path.as_posix(), "label": label, "sha256": digest}
            | {"seconds": f"{seconds:.3f}", "sample_rate": RATE, "channels": 1}
            | {"group": "", "title": "", "part": ""}
        )
    with Path("data/clips.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(sorted(rows, key=lambda row: row["clip"]))
    return paths


def sound(seed: int, seconds: float) -> np.ndarray:
    """A chord in noise, float32 (samples,) at RATE."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in random.uniform(80, 2000, 4))
    return (0.15 * chord + random.normal(0, 0.05, len(time))).astype(np.float32)


def extractor() -> Wav2Vec2FeatureExtractor:
    """DistilHuBERT's, asked for an attention mask as the course asks."""
    return Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)


def distilhubert(**narrower: object) -> HubertConfig:
    """The config of ntu-spml/distilhubert at fa87d962, with ten labels to tell apart."""
    shape = {
        "num_hidden_layers": 2,
        "feat_proj_layer_norm": False,
        "feat_proj_dropout": 0.0,
        "final_dropout": 0.0,
        "layerdrop": 0.0,
        "apply_spec_augment": False,
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: number for number, label in enumerate(LABELS)},
    }
    return HubertConfig(**shape | narrower)


def shape(narrower: bool) -> HubertConfig:
    """DistilHuBERT's, or for a test the one with fewer channels."""
    return narrow() if narrower else distilhubert()


def narrow() -> HubertConfig:
    """DistilHuBERT with fewer channels and one layer: a step of 30 s clips is short enough for the
    reading of the batch to be seen beside it."""
    return distilhubert(
        conv_dim=(16,) * 7,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=1,
        attention_dropout=0.0,  # else most of a step is the drawing of its random numbers
    )


def repository() -> dict[str, str]:
    """The environment of a child process that imports this repository from anywhere.

    Bytecode is kept, as an install keeps it: else a start would be the compiling of all it imports.
    """
    ours = {"PYTHONPATH": str(PARAMS.parent), "PYTHONDONTWRITEBYTECODE": ""}
    return os.environ | ours | {"DVC_NO_ANALYTICS": "1"}
