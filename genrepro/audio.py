"""Decode audio files to samples, with bounded memory whatever a header claims.

The libraries that decode are in decoders.py; soxr resamples.

A file whose decoding stops early (a cut download, a damaged block) is read up to the damage, and
is used if that is at least `MIN_SECONDS`; `Inspection.cut_short` says why it stopped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from genrepro.core.files import sha256
from genrepro.decoders import AudioFault, open_decoder

SOUNDS: tuple[str, ...] = (
    ".wav",
    ".wave",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".mp2",
    ".mpga",
    ".aif",
)
SOUNDS += (".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".voc", ".sph", ".m4a", ".m4b")
SOUNDS += (".aac", ".wma", ".mp4", ".webm", ".mka", ".mkv", ".mov", ".avi", ".3gp", ".amr", ".ac3")
SOUNDS += (".ape", ".wv")

MIN_SECONDS = 0.1  # feature extractors need at least a few windows
MAX_SECONDS = 4 * 3600.0  # the longest file that is read: 2.5 GB of samples at 44.1 kHz
MIN_RATE, MAX_RATE = 2_000, 768_000  # Hz; others would take too much memory to resample
MAX_CHANNELS = 64
MAX_LEVEL = 1e6  # full scale is 1.0, or 32768 if integers were stored as floats
SILENCE = 2.0**-15  # peak to peak: less than one step of 16-bit audio
CANCELLED = 0.01  # of the first channel's level: a mean below it means that channels cancel out


class Stream:
    """One audio file, or its first `max_seconds`, decoded block by block into mono.

    Attributes:
        sample_rate: in Hz.
        channels: in the file; the blocks are their mean.
        cut_short: after iteration, why decoding stopped before the end; None if it did not.
        remark: after iteration, what else a person should know; None if there is nothing.

    Raises:
        AudioFault: the file is empty or cannot be decoded, or its header is impossible.
    """

    def __init__(self, path: Path, max_seconds: float | None = None) -> None:
        if path.stat().st_size == 0:
            raise AudioFault("empty file")
        self._file = open_decoder(path)
        self.sample_rate = self._file.sample_rate
        self.channels = self._file.channels
        self.cut_short: str | None = None
        self.remark: str | None = None
        self._wanted = math.inf if max_seconds is None else round(max_seconds * self.sample_rate)
        if not 1 <= self.channels <= MAX_CHANNELS:
            self._refuse(f"claims {self.channels} channels; at most {MAX_CHANNELS} are read")
        if not MIN_RATE <= self.sample_rate <= MAX_RATE:
            self._refuse(
                f"claims a sample rate of {self.sample_rate} Hz; {MIN_RATE} to {MAX_RATE} are read"
            )

    def _refuse(self, reason: str) -> None:
        self._file.close()
        raise AudioFault(reason)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield float32 arrays (n,), n > 0, in order. Raises AudioFault on NaN or infinity."""
        decoded = cancelled = 0
        for block in self._file.blocks(self._wanted):
            decoded += len(block)
            mono = _mixed(block.astype(np.float32, copy=False))
            if self.channels > 1 and _cancel_out(block[:, 0], mono):
                mono = block[:, 0].astype(np.float32)
                cancelled += len(block)
            if block.dtype == np.int16:
                mono *= np.float32(2.0**-15)
            elif not (mono.min() >= -MAX_LEVEL and mono.max() <= MAX_LEVEL):  # also true for NaN
                _refuse_samples(mono)
            yield mono
        if cancelled > decoded / 2:
            self.remark = "its channels cancel out: the first one is used"
        self.cut_short = self._file.cut_short


def _mixed(block: np.ndarray) -> np.ndarray:
    """The mean of the channels, summed column by column: 20 times as fast as ndarray.mean."""
    mono = block[:, 0]
    if block.shape[1] > 1:
        mono = mono + block[:, 1]
        for channel in block.T[2:]:
            mono += channel
        mono /= np.float32(block.shape[1])
    return mono


def _refuse_samples(mono: np.ndarray) -> None:
    if not np.isfinite(mono).all():
        raise AudioFault("holds samples that are not finite numbers (NaN or infinity)")
    raise AudioFault(f"holds samples above {MAX_LEVEL:g} times full scale")


def _cancel_out(first: np.ndarray, mono: np.ndarray) -> bool:
    """Whether channels are each other's negative, so that their mean is next to nothing."""
    return bool(mono.max() - mono.min() < CANCELLED * (float(first.max()) - float(first.min())))


def read(path: Path, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Decode a file, or its first `max_seconds`, to mono.

    Returns:
        Samples, float32 (n,), full scale 1.0, and the sample rate in Hz. Memory grows with
        what was decoded, not with what the header claims.

    Raises:
        AudioFault: the file is empty, cannot be decoded, is shorter than MIN_SECONDS, holds NaN or
            infinity, or is longer than MAX_SECONDS when `max_seconds` is not given.
    """
    with Stream(path, MAX_SECONDS + 1 if max_seconds is None else max_seconds) as stream:
        blocks = list(stream)
    count = sum(len(block) for block in blocks)
    if max_seconds is None and count > MAX_SECONDS * stream.sample_rate:
        raise AudioFault(f"longer than {MAX_SECONDS / 3600:g} hours")
    _long_enough(count, stream)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks), stream.sample_rate


def resample(samples: np.ndarray, sample_rate: int, target_rate: int) -> np.ndarray:
    """Resample (n,) float32 from `sample_rate` to `target_rate` Hz, with soxr's HQ filter."""
    if sample_rate == target_rate:
        return samples
    return soxr.resample(samples, sample_rate, target_rate, quality="HQ")


@dataclass(frozen=True)
class Inspection:
    """What is known about a sound file once all of it was decoded."""

    seconds: float
    sample_rate: int
    channels: int
    sha256: str
    cut_short: str | None
    remark: str | None = None


def inspect(path: Path, head_seconds: float = 0.0) -> tuple[Inspection, np.ndarray]:
    """Decode a whole file and describe it; keep its first `head_seconds`.

    Returns:
        The inspection, and the head as mono float32 (n,).

    Raises:
        AudioFault: as for `read`, or the whole file is silent.
    """
    with Stream(path) as stream:
        head, kept, count = [], 0, 0
        low, high = np.inf, -np.inf
        wanted = round(head_seconds * stream.sample_rate)
        for block in stream:
            count += len(block)
            if count > MAX_SECONDS * stream.sample_rate:
                raise AudioFault(f"longer than {MAX_SECONDS / 3600:g} hours")
            low, high = min(low, block.min()), max(high, block.max())
            if kept < wanted:
                head.append(block[: wanted - kept])
                kept += len(head[-1])
        _long_enough(count, stream)
        if high - low < SILENCE:
            raise AudioFault("silence: no sample differs from the others")
        seconds = round(count / stream.sample_rate, 3)
        found = Inspection(
            seconds,
            stream.sample_rate,
            stream.channels,
            sha256(path),
            stream.cut_short,
            stream.remark,
        )
    return found, np.concatenate(head) if head else np.zeros(0, np.float32)


def sound_extension(path: Path) -> str | None:
    """A sound file's extension: its own, or by its content if that is unknown; None for others."""
    if path.suffix.lower() in SOUNDS:
        return path.suffix
    try:
        with path.open("rb") as file:
            found = extension_of(file.read(12))
    except OSError:  # a broken link, or a folder
        return None
    return None if found in (".mp3", ".m4a", ".aac") else found  # pictures and texts begin alike


def extension_of(content: bytes) -> str | None:
    """The extension that fits the first 12 bytes of a sound file; None if they do not tell."""
    found = (each for magic, each in _MAGIC.items() if re.match(magic, content, re.DOTALL))
    return next(found, None)


def _long_enough(count: int, stream: Stream) -> None:
    if count == 0:
        raise AudioFault(stream.cut_short or "holds no samples")
    if count < MIN_SECONDS * stream.sample_rate:
        seconds = count / stream.sample_rate
        raise AudioFault(f"lasts {seconds:.3f} s; at least {MIN_SECONDS} s are needed")


_MAGIC = {
    rb"(RIFF|RF64|RIFX)....WAVE": ".wav",
    rb"fLaC": ".flac",
    rb"OggS": ".ogg",
    rb"FORM....AIF[FC]": ".aiff",
    rb"\.snd": ".au",
    rb"caff": ".caf",
    rb"riff\x2e\x91\xcf\x11": ".w64",
    rb"\x30\x26\xb2\x75": ".wma",
    rb"\x1a\x45\xdf\xa3": ".webm",
    rb"#!AMR": ".amr",
    rb"....ftyp": ".m4a",
    rb"\xff[\xf0\xf1\xf8\xf9]": ".aac",
    rb"ID3|\xff[\xe0-\xff]": ".mp3",
}
