"""Measure what is called unlike the training clips: the run's own clips, and sounds of other kinds.

After `dvc repro` and `python -m tools.embeddings`: python -m tests.support.unlike FOLDER
FOLDER holds sounds of another kind than the corpus, such as ESC-10; silence and noise are made, and
the speech is what comes with gradio. Prints the share of each that is flagged by what tools.unlike
does, and by simpler distances of the same layers, each with its threshold from validation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio
import numpy as np
from sklearn.covariance import LedoitWolf

from genrepro import audio
from genrepro.core.paths import ENCODED, EXPORT
from genrepro.core.stage import run
from genrepro.encoding.extractor import extract_segments, load_extractor
from genrepro.encoding.store import Encoded
from genrepro.model import backbone
from tools import results, unlike
from tools.embeddings import process, reference, run_segments

SPEECH = ("cate_blanch.mp3", "cate_blanch_2.mp3", "heath_ledger.mp3", "recording1.wav")
SECONDS = 4.0  # of silence, of noise, and of each piece of speech
Scores = Callable[[np.ndarray], np.ndarray]  # profiles (n, layers, channels) to distances (n,)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.unlike", description=__doc__)
    parser.add_argument("folder", type=Path, help="sounds of another kind")
    parser.add_argument("--most", type=int, default=40, help="so many of them, evenly chosen")
    args = parser.parse_args()
    model, extractor = backbone.load(EXPORT), load_extractor(EXPORT)

    def profile(wave: np.ndarray) -> np.ndarray:
        return run_segments(model, extract_segments(extractor, wave), 16)[1].mean(axis=0)

    found = process(model, Encoded.open(ENCODED), 16)
    split = results.clips().set_index("clip").loc[found.clips, "split"].to_numpy()
    first = np.unique(found.clip_of, return_index=True)[1]  # a clip's first segment is enough here
    groups = {
        name: found.profiles[first][split == name] for name in ("train", "validation", "test")
    }
    rate = extractor.sampling_rate
    for kind, wave in [*other(args.folder, args.most, rate), *made(rate), *speech(rate)]:
        groups[kind] = np.concatenate([groups.get(kind, groups["test"][:0]), profile(wave)[None]])
    others = [each for name, each in groups.items() if name not in ("train", "validation", "test")]
    groups["all others"] = np.concatenate(others)
    kept = reference(found, split, {})
    for name, scores in candidates(groups["train"], kept).items():
        limit = unlike._limit(scores(groups["validation"])[:, None])[0]
        shares = (
            f"{kind} {(scores(each) > limit).mean():.2f} of {len(each)}"
            for kind, each in groups.items()
        )
        print(f"{name:34}", *list(shares)[1:], sep="  ")


def candidates(train: np.ndarray, kept: unlike.Reference) -> dict[str, Scores]:
    """Distances by name, the first of which is in use."""
    width = train.shape[2] // 2
    gauss = LedoitWolf().fit(train[:, -1, :width])

    def cosine(profiles: np.ndarray) -> np.ndarray:
        ours, known = (_unit(each[:, -1, :width]) for each in (profiles, train))
        return unlike._to_nearest(ours, known)

    def mahalanobis(profiles: np.ndarray) -> np.ndarray:
        return gauss.mahalanobis(profiles[:, -1, :width])

    def alone(layer: int) -> Scores:
        return lambda profiles: kept.by_layer(profiles)[:, layer]

    return {
        "in use: the farthest layer": kept.distances,
        "cosine, last layer's mean": cosine,
        "Mahalanobis, last layer's mean": mahalanobis,
    } | {f"nearest, layer {at} alone": alone(at) for at in range(train.shape[1])}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def other(folder: Path, most: int, rate: int) -> Iterator[tuple[str, np.ndarray]]:
    files = sorted(path for path in folder.rglob("*") if audio.sound_extension(path))
    for index in np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int):
        yield folder.name, _read(files[index], rate)


def made(rate: int) -> Iterator[tuple[str, np.ndarray]]:
    """Silence, and white, pink and brown noise at two levels."""
    count = round(SECONDS * rate)
    yield "silence", np.zeros(count, np.float32)
    rng = np.random.default_rng(0)
    for slope in (0, 0.5, 1):  # of the amplitude over the frequency
        spectrum = np.fft.rfft(rng.normal(size=count))
        spectrum[1:] /= np.arange(1, len(spectrum)) ** slope
        noise = np.fft.irfft(spectrum, count)
        for level in (0.01, 0.1):
            yield "noise", (level * noise / noise.std()).astype(np.float32)


def speech(rate: int) -> Iterator[tuple[str, np.ndarray]]:
    count = round(SECONDS * rate)
    for name in SPEECH:
        wave = _read(Path(gradio.__file__).parent / "media_assets/audio" / name, rate)
        for start in range(0, max(1, min(len(wave), 4 * count) - count + 1), count):
            yield "speech", wave[start : start + count]


def _read(path: Path, rate: int) -> np.ndarray:
    samples, own = audio.read(path, 30.0)
    return audio.resample(samples, own, rate)


if __name__ == "__main__":
    run(main)
