"""How unlike a model's training clips a sound is, by its distance to the nearest of them.

A model gives every sound one of its labels, with confidence. But its layers' outputs for an
unfamiliar sound are far from those for any training clip. The mean and the standard deviation over
time of several layers are compared, since the last one alone keeps little but the label.
Deep nearest neighbours: Sun et al. 2022, https://arxiv.org/abs/2204.06507.

`python -m tools.embeddings` writes what is needed, and the embeddings that the app's Map shows.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from genrepro.core.errors import PipelineError
from genrepro.core.files import sha256
from genrepro.core.paths import EMBEDDINGS, ENCODED, EXPORT, REFERENCE, SPLIT

COMMAND = "python -m tools.embeddings"
WEIGHTS = "model.safetensors"
COLUMNS = ["clip", "label", "split", "predicted", "x", "y"]
NEIGHBOURS = 5  # training clips that a sound is compared with
MOST_CLIPS = 5000  # training clips that are kept for it
FLAGGED = 0.1  # at most this share of the validation clips is unlike the training clips
LAYERS = 4  # at most so many are compared: the first, the last, and between them
AT_ONCE = 256  # segments: bounds the memory of distances


@dataclass(frozen=True)
class Unlikeness:
    """The distance to the training clips; 90% of the validation clips stay below 1."""

    distance: float

    @property
    def unlike(self) -> bool:
        return self.distance > 1

    def described(self) -> dict:
        return {"distance": round(self.distance, 4), "unlike": self.unlike}


@dataclass(frozen=True)
class Reference:
    """Profiles of training clips: (clips, layers, channels), in half precision.

    Attributes:
        made_of: as `made_of` says of model, clips and split.
        center, spread: (layers, channels), of the training clips.
        unit: (layers,), the distance in each layer that counts as 1.
    """

    made_of: dict[str, str]
    center: np.ndarray
    spread: np.ndarray
    vectors: np.ndarray
    unit: np.ndarray

    @classmethod
    def fit(
        cls,
        made_of: dict[str, str],
        train: np.ndarray,
        validation: np.ndarray,
        clip_of: np.ndarray,
    ) -> Reference:
        """Take training clips as the reference, and let validation clips decide what is far.

        Args:
            train: (clips, layers, channels), the mean of each clip's segments.
            validation: (segments, layers, channels).
            clip_of: (segments,), the validation clip of each, from 0 without gaps.
        """
        center, spread = train.mean(axis=0), train.std(axis=0) + 1e-6
        chosen = np.random.default_rng(0).permutation(len(train))[:MOST_CLIPS]
        vectors = ((train[np.sort(chosen)] - center) / spread).astype(np.float16)
        first = cls(made_of, center, spread, vectors, np.ones(train.shape[1]))
        by_layer = _by_clip(first.by_layer(validation), clip_of)
        each = cls(made_of, center, spread, vectors, _limit(by_layer))
        farthest = _by_clip(each.distances(validation)[:, None], clip_of)
        return cls(made_of, center, spread, vectors, each.unit * _limit(farthest))

    def unlikeness(self, profiles: np.ndarray) -> Unlikeness:
        """Of a sound with these segments: (segments, layers, channels)."""
        return Unlikeness(float(self.distances(profiles).mean()))

    def distances(self, profiles: np.ndarray) -> np.ndarray:
        """(segments,): the distance in the layer in which it is largest."""
        return (self.by_layer(profiles) / self.unit).max(axis=1)

    def by_layer(self, profiles: np.ndarray) -> np.ndarray:
        """(segments, layers): the mean distance to the nearest training clips."""
        scaled = ((profiles - self.center) / self.spread).astype(np.float32)
        found = np.empty(scaled.shape[:2])
        for layer in range(scaled.shape[1]):
            known = self.vectors[:, layer].astype(np.float32)
            for start in range(0, len(scaled), AT_ONCE):
                rows = slice(start, start + AT_ONCE)
                found[rows, layer] = _to_nearest(scaled[rows, layer], known)
        return found

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez(
                file,
                made_of=np.array(json.dumps(self.made_of)),
                center=self.center,
                spread=self.spread,
                vectors=self.vectors,
                unit=self.unit,
            )

    @classmethod
    def load(cls, path: Path) -> Reference:
        with np.load(path, allow_pickle=False) as stored:
            made_of = json.loads(str(stored["made_of"]))
            names = ("center", "spread", "vectors", "unit")
            return cls(made_of, *(stored[name] for name in names))


def _to_nearest(queries: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(queries,): the mean Euclidean distance to the NEIGHBOURS nearest of `known`."""
    squares = (queries**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2 * queries @ known.T
    count = min(NEIGHBOURS, len(known))
    nearest = np.partition(squares, count - 1, axis=1)[:, :count]
    return np.sqrt(np.maximum(nearest, 0)).mean(axis=1)


def _by_clip(distances: np.ndarray, clip_of: np.ndarray) -> np.ndarray:
    """(clips, columns): means of the rows of each clip."""
    sums = np.zeros((clip_of.max() + 1, distances.shape[1]))
    np.add.at(sums, clip_of, distances)
    return sums / np.bincount(clip_of)[:, None]


def _limit(distances: np.ndarray) -> np.ndarray:
    """(columns,): the smallest of these distances that at most FLAGGED of them exceed."""
    return np.quantile(distances, 1 - FLAGGED, axis=0, method="inverted_cdf")


def of_model(folder: Path) -> Reference | None:
    """The reference for the model in a folder, or None if there is none for these weights."""
    if not REFERENCE.exists() or not (folder / WEIGHTS).exists():
        return None
    found = Reference.load(REFERENCE)
    return found if found.made_of["model"] == weights(folder) else None


def made_of(folder: Path = EXPORT) -> dict[str, str]:
    """What the embeddings depend on: the model's weights, the encoded clips and their split.

    Raises:
        PipelineError: a file is missing.
    """
    try:
        state = json.loads((ENCODED / "state.json").read_text(encoding="utf-8"))
        return {
            "model": weights(folder),
            "encoded": state["_fingerprint"],
            "split": sha256(SPLIT),
        }
    except FileNotFoundError as error:
        raise PipelineError(f"{error.filename} does not exist yet: type `dvc repro`.") from None


def weights(folder: Path) -> str:
    """A hash of a model's weights."""
    path = folder / WEIGHTS
    stat = path.stat()
    return _hash(path.resolve(), stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4)  # a large model is read once
def _hash(path: Path, _time: int, _size: int) -> str:
    return sha256(path)


def read() -> tuple[pd.DataFrame, str]:
    """The clips with label, split, predicted, x and y; and how x and y were found.

    Raises:
        PipelineError: they were not computed, or for another model or other clips.
    """
    if not EMBEDDINGS.exists():
        raise PipelineError(f"{EMBEDDINGS} does not exist yet: type `{COMMAND}`.")
    metadata = pq.read_schema(EMBEDDINGS).metadata
    if json.loads(metadata[b"made_of"]) != made_of():
        raise PipelineError(
            f"{EMBEDDINGS} is of another model, or of other clips, than the last `dvc repro`: type "
            f"`{COMMAND}` again."
        )
    return pq.read_table(EMBEDDINGS, columns=COLUMNS).to_pandas(), metadata[b"map"].decode()
