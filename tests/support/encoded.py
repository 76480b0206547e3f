"""Sound files of every kind, written by libsndfile or by FFmpeg's libraries."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile

QSCALE = 2  # AV_CODEC_FLAG_QSCALE: a constant quality, and so a variable bit rate


def music(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    """Notes that become louder and denser, (n,) float32: a variable bit rate does vary."""
    dice = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    samples = np.zeros_like(time)
    for start in np.arange(0, seconds, 0.25):
        now = time >= start
        fade = np.exp(-8 * (time[now] - start))
        samples[now] += np.sin(2 * np.pi * dice.uniform(100, 0.2 * rate) * time[now]) * fade
    samples += dice.normal(0, 0.1, len(time)) * (time > seconds / 2)
    return (0.5 * samples / np.abs(samples).max()).astype(np.float32)


def encode(
    path: Path,
    samples: np.ndarray,
    rate: int,
    codec: str,
    kind: str | None = None,
    container: dict[str, str] | None = None,
    quality: int | None = None,
    **options: str,
) -> Path:
    """Write (n,) or (channels, n) samples with one of FFmpeg's encoders."""
    samples = np.ascontiguousarray(np.atleast_2d(samples), np.float32)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
    with av.open(str(path), "w", format=kind, options=container or {}) as file:
        stream = file.add_stream(codec, rate=rate, options=options, layout=layout)
        stream.bit_rate = 96_000
        if quality is not None:
            stream.codec_context.flags |= QSCALE
            stream.codec_context.global_quality = quality * 118  # FF_QP2LAMBDA
        frame = av.AudioFrame.from_ndarray(samples, "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        form = stream.codec_context.format
        resampler = av.AudioResampler(form, layout, rate, stream.codec_context.frame_size or 1024)
        for each in (frame, None):
            for piece in resampler.resample(each):
                file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return path


def mp3(path: Path, samples: np.ndarray, rate: int, mode: str, header: bool, tag: int) -> Path:
    """An MP3 of constant, average or variable bit rate, with an ID3v2 tag of `tag` bytes."""
    container = {"write_xing": str(int(header)), "id3v2_version": "0"}
    quality = 4 if mode == "variable" else None
    options = {"abr": "1"} if mode == "average" else {}
    encode(path, samples, rate, "libmp3lame", "mp3", container, quality, **options)
    if tag:
        size = bytes((tag >> shift) & 127 for shift in (21, 14, 7, 0))
        cover = b"APIC" + (tag - 10).to_bytes(4, "big") + b"\0\0"
        cover += np.random.default_rng(1).integers(0, 256, tag - 10, np.uint8).tobytes()
        path.write_bytes(b"ID3\3\0\0" + size + cover + path.read_bytes())
    return path


class Written(NamedTuple):
    """A file that libsndfile wrote, and what it was given: (n, channels) at `rate`."""

    path: Path
    kind: str
    subtype: str
    samples: np.ndarray
    rate: int


def every_kind(folder: Path) -> Iterator[Written]:
    """All of libsndfile's formats and subtypes, mono and stereo, at several rates."""
    shapes = [(1, 8_000), (1, 22_050), (2, 44_100)]
    sounds = [np.stack([music(0.6, rate, seed=n) for n in range(c)], 1) for c, rate in shapes]
    for kind in soundfile.available_formats():
        for subtype in soundfile.available_subtypes(kind):
            for samples, (channels, rate) in zip(sounds, shapes):
                if subtype == "ALAC_20" and channels == 2:
                    continue  # libsndfile 1.2.2 writes it damaged: "compressed frame too big"
                path = folder / f"{kind}-{subtype}-{channels}-{rate}.{kind.lower()}"
                try:
                    soundfile.write(path, samples, rate, subtype, format=kind)
                except soundfile.LibsndfileError:  # not with these channels, or at this rate
                    path.unlink(missing_ok=True)
                else:
                    yield Written(path, kind, subtype, samples, rate)
