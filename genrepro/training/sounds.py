"""Convert the features that `encode` stored to a form that can be augmented, and back.

A waveform is changed as such, and scaled again as its feature extractor had scaled it. A log-mel
spectrogram is changed as power, which adds up when sounds do; its logarithm is then cut off where
the extractor cuts it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from scipy import fft, linalg
from transformers import (
    ASTFeatureExtractor,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from transformers import SequenceFeatureExtractor as Extractor
from transformers.audio_utils import mel_filter_bank

from genrepro.core.errors import PipelineError

FRAME, FFT = 400, 512  # samples, of AST's and SeamlessM4T's frames; Whisper's n_fft is both
PREEMPHASIS = 0.97  # of these two
SLOPE = 0.05  # of the cutoff: where a limited band ends


class Domain(Protocol):
    """What a feature extractor gives, as a sound: an array whose first axis is time.

    Attributes:
        rate: steps of that axis per second.
        highest: Hz, half the sampling rate.
        order: 1 where the sound is an amplitude, 2 where it is a power.
        refused: the changes that cannot be made, and why.
    """

    rate: float
    highest: float
    order: int
    refused: dict[str, str]

    def read(self, features: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The recorded part of stored features, float32."""

    def write(self, sound: np.ndarray, features: np.ndarray) -> np.ndarray:
        """What the extractor would have stored of it, in the shape of `features`, float32."""

    def power(self, sound: np.ndarray) -> float:
        """Mean power, of which noise and a signal of equal power have equally much."""

    def noise(self, sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """White or pink noise of any power, as long as `sound`."""

    def limit(self, sound: np.ndarray, cutoff: float) -> np.ndarray:
        """The sound without what is above `cutoff` Hz."""


class Waveform:
    """(samples,), for HuBERT, wav2vec2, WavLM and their like."""

    order = 1

    def __init__(self, extractor: Wav2Vec2FeatureExtractor) -> None:
        self.rate, self.highest = extractor.sampling_rate, extractor.sampling_rate / 2
        self.normalized = extractor.do_normalize
        self.refused: dict[str, str] = {}
        if self.normalized:
            self.refused["gain"] = (
                "changes nothing in clips that encode.normalize scales to unit variance"
            )

    def read(self, features: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return features.astype(np.float32)

    def write(self, sound: np.ndarray, features: np.ndarray) -> np.ndarray:
        if not self.normalized:
            return sound
        return (sound - sound.mean()) / np.sqrt(sound.var() + np.float32(1e-7))  # as the extractor

    def power(self, sound: np.ndarray) -> float:
        return float(np.dot(sound, sound)) / len(sound)

    def noise(self, sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
        size = fft.next_fast_len(len(sound), real=True)
        white = random.standard_normal(size, dtype=np.float32)
        if random.random() < 0.5:
            return white[: len(sound)]
        spectrum = fft.rfft(white)
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum), dtype=np.float32))
        return fft.irfft(spectrum, size)[: len(sound)]

    def limit(self, sound: np.ndarray, cutoff: float) -> np.ndarray:
        size = fft.next_fast_len(len(sound), real=True)
        spectrum = fft.rfft(sound, size)
        step = self.rate / size
        begin = int(cutoff * (1 - SLOPE) / step)
        spectrum[begin:] *= response(np.arange(begin, len(spectrum)) * step, cutoff)
        return fft.irfft(spectrum, size)[: len(sound)]


class LogMel:
    """(frames, bands) or, for Whisper, (bands, frames): the logarithm of power, scaled linearly."""

    order = 2

    def __init__(self, extractor: ASTFeatureExtractor | WhisperFeatureExtractor) -> None:
        """Learn how the extractor scales: ln(power) = scale × stored + offset."""
        rate = extractor.sampling_rate
        self.highest = rate / 2
        self.bands_first = isinstance(extractor, WhisperFeatureExtractor)
        self.refused: dict[str, str] = {}
        if self.bands_first:
            self.rate = rate / extractor.hop_length
            self.scale, self.offset = 4 * np.log(10), -4 * np.log(10)
            self.floor, self.range = 1e-10, 1e8
            self.padding: np.float16 | None = None  # the sound was padded
            size, filters = extractor.n_fft, extractor.mel_filters
            window = np.hanning(size + 1)[:-1]
        else:
            self.rate = 100.0
            mean, std = (extractor.mean, extractor.std) if extractor.do_normalize else (0.0, 0.5)
            self.scale, self.offset = 2 * std, mean
            self.floor, self.range = 1.1920929e-07, np.inf
            self.padding = np.float16((0.0 - mean) / (2 * std))  # the logarithms were
            size, window = FFT, np.hanning(FRAME)
            filters = kaldi_filters(extractor.num_mel_bins, rate)
        self.hertz = np.arange(len(filters)) * rate / size
        emphasis = np.ones(len(filters))
        if not self.bands_first:
            emphasis = np.abs(1 - PREEMPHASIS * np.exp(-2j * np.pi * self.hertz / rate)) ** 2
        self.filters = filters * emphasis[:, None]  # (frequencies, bands)
        # A band's power divided by its filter's sum is a density; times the filter's width, which
        # together make up the whole spectrum, it is power again.
        sums = self.filters.sum(axis=0)
        widths = (filters / np.maximum(filters.max(axis=0), 1e-30)).sum(axis=0)
        weights = np.divide(widths, sums, out=np.zeros_like(sums), where=sums > 0)
        self.weights = weights.astype(np.float32)
        # Power in a band varies as if that many frequencies were independent; see `noise`.
        alike = np.abs(np.fft.fft(window**2, size)) ** 2 / np.sum(window**2) ** 2
        alike = linalg.toeplitz(alike[: len(filters)])
        self.colours = [self._colour(tilt, alike) for tilt in (0, 1)]

    def _colour(self, tilt: float, alike: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean power of noise in each band, and the shape of its gamma distribution."""
        filters = self.filters / np.maximum(self.hertz, self.hertz[1])[:, None] ** tilt
        means = filters.sum(axis=0)
        variances = np.einsum("fb,fg,gb->b", filters, alike, filters)
        shapes = np.divide(means**2, variances, out=np.ones_like(means), where=means > 0)
        return (means / shapes).astype(np.float32), shapes.astype(np.float32)

    def read(self, features: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """(frames, bands) of power; 0 where the extractor cut the logarithm off.

        Silence at the end of a segment for Whisper may be the recording's own or padding: it is
        taken for either, by chance.
        """
        stored = (features.T if self.bands_first else features).astype(np.float32)
        if self.padding is not None:
            stored = stored[: _end(stored != np.float32(self.padding))]
        power = np.exp(np.float32(self.scale) * stored + np.float32(self.offset))
        power[power <= 1.05 * self._floor(power)] = 0  # which half precision knows to 1%
        if self.padding is None and random.random() < 0.5:
            power = power[: _end(power > 0)]
        return power

    def write(self, sound: np.ndarray, features: np.ndarray) -> np.ndarray:
        frames = features.shape[self.bands_first]
        silent = self.padding is None
        stored = np.full((frames, sound.shape[1]), 0 if silent else self.padding, np.float32)
        logarithm = np.log(np.maximum(sound, self._floor(sound)))
        stored[: len(sound)] = (logarithm - np.float32(self.offset)) / np.float32(self.scale)
        if silent:
            stored[len(sound) :] = (np.log(self._floor(sound)) - self.offset) / self.scale
        return stored.T if self.bands_first else stored

    def _floor(self, power: np.ndarray) -> np.float32:
        return np.float32(max(self.floor, power.max(initial=0.0) / self.range))

    def power(self, sound: np.ndarray) -> float:
        return float((sound @ self.weights).mean()) if len(sound) else 0.0

    def noise(self, sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Each frequency's power is exponentially distributed, and so a band's nearly gamma."""
        scales, shapes = self.colours[0 if random.random() < 0.5 else 1]
        return random.standard_gamma(shapes, sound.shape, dtype=np.float32) * scales

    def limit(self, sound: np.ndarray, cutoff: float) -> np.ndarray:
        kept = (self.filters * response(self.hertz, cutoff)[:, None] ** 2).sum(axis=0)
        return sound * (kept / np.maximum(self.filters.sum(axis=0), 1e-30)).astype(np.float32)


class NormalizedMel:
    """(frames, bands of some frames side by side), each band scaled to unit variance: w2v-BERT's.

    How loud the bands were is lost.
    """

    order = 1

    def __init__(self, extractor: SeamlessM4TFeatureExtractor) -> None:
        self.rate, self.highest = 100.0 / extractor.stride, extractor.sampling_rate / 2
        lost = "needs the levels of the bands, which w2v-BERT's feature extractor removes"
        self.refused = {"gain": lost, "noise": lost}
        self.stride, bands = extractor.stride, extractor.num_mel_bins
        filters = kaldi_filters(bands, extractor.sampling_rate)
        hertz = np.arange(len(filters)) * extractor.sampling_rate / FFT
        self.centres = hertz @ filters / np.maximum(filters.sum(axis=0), 1e-30)

    def read(self, features: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return features.astype(np.float32)

    def write(self, sound: np.ndarray, features: np.ndarray) -> np.ndarray:
        """As the extractor: zero mean and unit variance of each band, 0 of one without a sound."""
        frames = sound.reshape(len(sound) * self.stride, -1)
        deviation = np.sqrt(frames.var(axis=0, ddof=1) + 1e-7)
        return ((frames - frames.mean(axis=0)) / deviation).reshape(sound.shape)

    def power(self, sound: np.ndarray) -> float:
        return float((sound**2).mean())

    def noise(self, sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
        raise NotImplementedError(self.refused["noise"])

    def limit(self, sound: np.ndarray, cutoff: float) -> np.ndarray:
        """A band that is silent throughout is 0 after scaling."""
        return sound * np.tile(self.centres < cutoff, self.stride)


def kaldi_filters(bands: int, rate: int) -> np.ndarray:
    """(frequencies, bands): the mel filters of AST's and SeamlessM4T's feature extractors."""
    return mel_filter_bank(
        num_frequency_bins=FFT // 2 + 1,
        num_mel_filters=bands,
        min_frequency=20,
        max_frequency=rate // 2,
        sampling_rate=rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )


def response(hertz: np.ndarray, cutoff: float) -> np.ndarray:
    """The amplitudes that a band limit leaves: 1, falling to 0 just below `cutoff`."""
    return np.clip((cutoff - hertz) / (SLOPE * cutoff), 0, 1).astype(np.float32)


def _end(sounding: np.ndarray) -> int:
    """The number of frames up to the last one that has a band with sound: (frames, bands)."""
    frames = np.flatnonzero(sounding.any(axis=1))
    return int(frames[-1]) + 1 if len(frames) else 0


def domain_of(extractor: Extractor, names: Iterable[str]) -> Domain:
    """How the segments of a feature extractor are changed.

    Raises:
        PipelineError: one of these changes cannot be made to them.
    """
    domain: Domain
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        domain = Waveform(extractor)
    elif isinstance(extractor, ASTFeatureExtractor | WhisperFeatureExtractor):
        domain = LogMel(extractor)
    elif isinstance(extractor, SeamlessM4TFeatureExtractor):
        domain = NormalizedMel(extractor)
    else:
        raise PipelineError(
            f"train.augment does not know the features of a {type(extractor).__name__}; set it to "
            "[] and train.spec_augment to null."
        )
    for name in names:
        if name in domain.refused:
            raise PipelineError(
                f"train.augment: {name} {domain.refused[name]}; leave {name} out of the list."
            )
    return domain
