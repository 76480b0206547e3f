"""Find clips that hold the same recording, by their acoustic fingerprints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from genrepro.core.errors import PipelineError

# Where two clips share a key, they are compared around that frame. A key is a run of 20 bits of a
# frame's code and 8 bits of a later one: about 6 in 100 bits of a copy differ, whole codes seldom
# agree and these often do, and other clips seldom share a key, however many clips there are.
_SHIFTS = (0, 3, 6, 9, 12)
_BITS, _LATER_BITS = np.uint32(2**20 - 1), np.uint32(2**8 - 1)
_LATER = 4  # frames
_NEIGHBOURS = 24  # frames that share a key are each compared with so many of the next ones
# Frames around the shared key that are compared, and the share of bits that may differ.
_CHECKS = (((-4, 0, 4), 0.3), (range(-4, 5), 0.3), (range(-16, 17), 0.3))
_PADDING = 16  # silent frames between clips, so that no comparison crosses them
_AT_ONCE = 50_000  # pairs of frames, to bound memory
_SECONDS = 1.5  # of shared sound, or most of the shorter clip: less may be a sample or a drum loop
_MOST = 0.6


class Match(NamedTuple):
    """Two clips that hold the same recording, and how well their codes agree."""

    a: str
    b: str
    wrong_bits: float  # share of differing bits; 0.5 is chance
    seconds: float  # of sound that was compared
    offset: float  # seconds from a's start to b's

    def __str__(self) -> str:
        return (
            f"{self.a}, {self.b}: {100 * self.wrong_bits:.0f} of 100 bits differ over "
            f"{self.seconds:.1f} s, {self.offset:+.2f} s apart"
        )


def read_fingerprints(path: Path) -> tuple[dict[str, np.ndarray], float]:
    """Read data/fingerprints.parquet: clip -> fingerprint, uint32 (frames,), and frames per second.

    Raises:
        PipelineError: the file is missing.
    """
    try:
        table = pq.read_table(path, columns=["clip", "fingerprint"])
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: type `dvc repro fetch_data`.") from None
    values = table["fingerprint"].combine_chunks()
    offsets, codes = values.offsets.to_numpy(), values.values.to_numpy()
    clips = table["clip"].to_pylist()
    rate = float(table.schema.metadata[b"frames_per_second"])
    return {clip: codes[offsets[i] : offsets[i + 1]] for i, clip in enumerate(clips)}, rate


def near_identical(fingerprints: Mapping[str, np.ndarray], frames_per_second: float) -> list[Match]:
    """Find all pairs of clips that hold the same recording, sorted by clip.

    Keys that two clips share propose an offset; the codes at that offset decide. The recording is
    the same if fewer bits differ than allowed_wrong_bits() allows. 1,000 clips of 30 s take a
    second or two.
    """
    clips = sorted(fingerprints)
    codes = [fingerprints[clip] for clip in clips]
    best: dict[tuple[int, int], tuple[float, float, int]] = {}
    for a, b, offset in _proposed(codes):
        found = _compared(codes[a], codes[b], offset, frames_per_second)
        if found and found < best.get((a, b), (1.0, 0.0, 0)):
            best[a, b] = found
    return [
        Match(clips[a], clips[b], wrong, seconds, offset / frames_per_second)
        for (a, b), (wrong, seconds, offset) in sorted(best.items())
    ]


def allowed_wrong_bits(seconds: float) -> float:
    """The share of bits that may differ over so many seconds of sound.

    Haitsma and Kalker allow 0.35. Here at most 0.22: copies of 120 real clips differed in 0.19 or
    less after mp3 or Ogg at low bit rates, clips of different bands in generated music that repeats
    one pattern in 0.24 or more. Chance agreement varies with 1/√seconds, so shorter sounds must
    agree better: different hits on kick drums differed in 0.011 or more over 0.5 s, two readings of
    one word in 0.05 over 0.5 s, two pieces by one band in 0.16 to 0.21 over 3 s. mp3 and Ogg copies
    differed in 0.02 to 0.1 over 0.6 s, so a copy of a clip of a second or less is found only if it
    was resampled, made louder or stored in another lossless format.

    The numbers were chosen on the clips they were measured on: expect a rare false alarm.
    """
    return max(0.005, min(0.5 - 0.36 / math.sqrt(seconds), 0.117 + 0.013 * seconds, 0.22))


def _proposed(codes: Sequence[np.ndarray]) -> list[tuple[int, int, int]]:
    """Clips a and b, a before b, and offsets at which they agree around a shared key."""
    if len(codes) < 2:
        return []
    quiet = np.zeros(_PADDING, np.uint32)
    flat = np.concatenate([quiet, *(part for code in codes for part in (code, quiet))])
    lengths = np.array([_PADDING, *(len(code) + _PADDING for code in codes[:-1])])
    starts = np.cumsum(lengths)  # of each clip in `flat`
    clip = np.searchsorted(starts, np.arange(len(flat)), side="right").astype(np.int32) - 1
    found: set[tuple[int, int, int]] = set()
    for shift in _SHIFTS:
        later = np.roll(flat, -_LATER) >> np.uint32(shift + 4) & _LATER_BITS
        key = later << np.uint32(20) | flat >> np.uint32(shift) & _BITS
        fresh = np.r_[True, key[1:] != key[:-1]]  # once per sustained sound
        kept = np.flatnonzero(fresh & (flat != 0))
        kept = kept[np.argsort(key[kept], kind="stable")]
        left = np.arange(len(kept))
        for step in range(1, _NEIGHBOURS + 1):
            left = left[left + step < len(kept)]
            left = left[key[kept[left]] == key[kept[left + step]]]
            a, b = kept[left], kept[left + step]
            other = clip[a] != clip[b]
            a, b = _agreeing(flat, a[other], b[other])
            offset = (a - starts[clip[a]]) - (b - starts[clip[b]])
            found.update(zip(clip[a].tolist(), clip[b].tolist(), offset.tolist(), strict=True))
    return sorted(found)


def _agreeing(flat: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the pairs of frames around which the codes agree."""
    for frames, most in _CHECKS:
        around = np.array(frames)
        agree = np.zeros(len(a), dtype=bool)
        for start in range(0, len(a), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            first, second = flat[a[rows, None] + around], flat[b[rows, None] + around]
            audible = (first != 0) & (second != 0)
            wrong = (np.bitwise_count(first ^ second) * audible).sum(axis=1)
            agree[rows] = wrong <= 32 * most * audible.sum(axis=1)
        a, b = a[agree], b[agree]
    return a, b


def _compared(
    a: np.ndarray, b: np.ndarray, offset: int, frames_per_second: float
) -> tuple[float, float, int] | None:
    """Wrong bits, seconds compared and offset in frames; None if it is not a match."""
    first, second = a[max(0, offset) :], b[max(0, -offset) :]
    common = min(len(first), len(second))
    first, second = first[:common], second[:common]
    audible = (first != 0) & (second != 0)
    frames = int(audible.sum())
    shorter = min(np.count_nonzero(a), np.count_nonzero(b))
    if frames < min(_SECONDS * frames_per_second, _MOST * shorter):
        return None
    wrong = int(np.bitwise_count(first[audible] ^ second[audible]).sum()) / (32 * frames)
    seconds = frames / frames_per_second
    return (wrong, seconds, offset) if wrong < allowed_wrong_bits(seconds) else None
