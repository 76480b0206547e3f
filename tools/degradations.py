"""What happens to sound on its way to a model: coding, a narrow band, noise, gain, a shift, a room.

Each function takes samples, float32 (n,) with full scale 1.0, their rate in Hz and a generator of
random numbers. It returns as many samples, float32, in step with those it was given.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
from scipy.signal import fftconvolve

from genrepro.audio import resample

Degradation = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz, all that there are
BIT_RATE = 32_000  # bits per second
BAND_RATE = 8000  # Hz, that of a telephone
SHIFT = 0.5  # s
RT60 = 0.5  # s in which reverberation falls by 60 dB: a living room


def mp3(samples: np.ndarray, rate: int, chance: np.random.Generator) -> np.ndarray:
    """Encode as MP3 at BIT_RATE with LAME, and decode; a rate that MP3 lacks goes to the next."""
    coded_rate = min((each for each in MP3_RATES if each >= rate), default=MP3_RATES[-1])
    wave = np.ascontiguousarray(resample(samples, rate, coded_rate), np.float32)
    frame = av.AudioFrame.from_ndarray(wave[None], "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = coded_rate, 0, Fraction(1, coded_rate)
    coded = io.BytesIO()
    with av.open(coded, "w", format="mp3") as file:
        stream = file.add_stream("libmp3lame", rate=coded_rate, layout="mono", bit_rate=BIT_RATE)
        for each in (frame, None):
            file.mux(stream.encode(each))
    coded.seek(0)
    with av.open(coded, "r") as file:
        decoded = np.concatenate([each.to_ndarray()[0] for each in file.decode(audio=0)])
    return _fitted(resample(decoded.astype(np.float32), coded_rate, rate), len(samples))


def narrow_band(samples: np.ndarray, rate: int, chance: np.random.Generator) -> np.ndarray:
    """Resample to BAND_RATE and back, which leaves what is below half of it."""
    if rate <= BAND_RATE:
        return samples
    return _fitted(resample(resample(samples, rate, BAND_RATE), BAND_RATE, rate), len(samples))


def noise(
    samples: np.ndarray, rate: int, chance: np.random.Generator, *, decibels: float
) -> np.ndarray:
    """Add white noise, `decibels` below the level of the whole clip."""
    level = np.float32(_level(samples) * 10 ** (-decibels / 20))
    return samples + level * chance.standard_normal(len(samples), np.float32)


def gain(
    samples: np.ndarray, rate: int, chance: np.random.Generator, *, decibels: float
) -> np.ndarray:
    """Amplify, and clip at full scale, as a file of integers would."""
    return np.clip(samples * np.float32(10 ** (decibels / 20)), -1, 1)


def shift(samples: np.ndarray, rate: int, chance: np.random.Generator) -> np.ndarray:
    """Delay by SHIFT; the end comes first, so that a short clip keeps its sound."""
    return np.roll(samples, round(SHIFT * rate))


def reverberation(samples: np.ndarray, rate: int, chance: np.random.Generator) -> np.ndarray:
    """Play in a room: add as much reverberation as there is direct sound, at the clip's own level.

    The room's response is white noise that falls exponentially, after Moorer, About This
    Reverberation Business (1979).
    """
    times = np.arange(max(1, round(RT60 * rate))) / rate  # at its end it is 60 dB lower
    response = chance.standard_normal(len(times)) * 10 ** (-3 * times / RT60)
    response /= np.linalg.norm(response)
    response[0] += 1
    wet = fftconvolve(samples, response)[: len(samples)]
    level = _level(wet)
    return (wet * (_level(samples) / level if level else 1)).astype(np.float32)


DEGRADATIONS: dict[str, Degradation] = {
    "MP3 at 32 kbit/s": mp3,
    "sampled at 8 kHz": narrow_band,
    "noise at 20 dB": functools.partial(noise, decibels=20),
    "noise at 10 dB": functools.partial(noise, decibels=10),
    "12 dB louder, clipped": functools.partial(gain, decibels=12),
    "12 dB quieter": functools.partial(gain, decibels=-12),
    "shifted by 0.5 s": shift,
    "reverberation of 0.5 s": reverberation,
}


def _level(samples: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _fitted(samples: np.ndarray, count: int) -> np.ndarray:
    """As many samples as before: rates and frames round the end."""
    return np.pad(samples[:count], (0, max(0, count - len(samples))))
