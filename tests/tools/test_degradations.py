"""tools.degradations: what each does to a sound, and that nothing else changes."""

import numpy as np
import pytest

from tests.support.encoded import music
from tests.support.samples import tone
from tools import degradations as tool
from tools.degradations import DEGRADATIONS


def chance() -> np.random.Generator:
    return np.random.default_rng(7)


def level(samples: np.ndarray) -> float:
    """In dB."""
    return 10 * np.log10(np.mean(np.square(samples, dtype=float)) + 1e-20)


def lag(one: np.ndarray, other: np.ndarray) -> int:
    """By how many samples `other` comes later."""
    size = 2 * len(one)
    product = np.fft.rfft(other, size) * np.conj(np.fft.rfft(one, size))
    at = int(np.fft.irfft(product).argmax())
    return at if at < len(one) else at - size


@pytest.mark.parametrize("rate", [4000, 8000, 10_000, 22_050, 96_000])
@pytest.mark.parametrize("name", DEGRADATIONS)
def test_as_many_samples_come_back_each_time_the_same(name, rate):
    for seconds in (0.1, 0.7):
        samples = music(seconds, rate)
        before = samples.copy()
        first = DEGRADATIONS[name](samples, rate, chance())
        assert (first.shape, first.dtype) == (samples.shape, np.float32)
        assert np.isfinite(first).all()
        assert np.array_equal(first, DEGRADATIONS[name](samples, rate, chance()))
        assert np.array_equal(samples, before)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_silence_stays_silent(name):
    silence = np.zeros(8000, np.float32)
    assert np.abs(DEGRADATIONS[name](silence, 16_000, chance())).max() < 1e-4


@pytest.mark.parametrize("rate", [10_000, 16_000, 22_050, 44_100])
def test_mp3_is_in_step_and_not_the_same(rate):
    samples = music(2.0, rate)
    coded = tool.mp3(samples, rate, chance())
    assert lag(samples, coded) == 0
    assert -60 < level(coded - samples) - level(samples) < -5


def test_mp3_at_a_low_bit_rate_loses_what_is_high():
    samples = chance().normal(0, 0.1, 88_200).astype(np.float32)
    power = np.abs(np.fft.rfft(tool.mp3(samples, 44_100, chance()))) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / 44_100)
    low, high = power[hertz < 4000].mean(), power[hertz > 14_000].mean()
    assert high < 1e-3 * low


def test_a_narrow_band_keeps_what_is_low():
    low, high = tone(1000, 1.0), tone(6000, 1.0)
    kept = tool.narrow_band(low, 16_000, chance())
    assert lag(low, kept) == 0 and abs(level(kept) - level(low)) < 0.1
    assert level(tool.narrow_band(high, 16_000, chance())) < level(high) - 20
    assert tool.narrow_band(low, 8000, chance()) is low


@pytest.mark.parametrize("decibels", [10, 20])
def test_noise_is_as_loud_as_it_says(decibels):
    for amplitude in (1, 0.01):
        samples = amplitude * tone(440, 2.0)
        added = tool.noise(samples, 16_000, chance(), decibels=decibels) - samples
        assert level(samples) - level(added) == pytest.approx(decibels, abs=0.2)
        power = np.abs(np.fft.rfft(added)) ** 2
        assert power[:8000].mean() == pytest.approx(power[8000:].mean(), rel=0.1)  # white


def test_gain_clips_at_full_scale():
    samples = np.array([0.1, -0.3, 0.2], np.float32)
    loud = tool.gain(samples, 16_000, chance(), decibels=12)
    assert loud == pytest.approx([0.3981, -1, 0.7962], abs=1e-4)
    quiet = tool.gain(samples, 16_000, chance(), decibels=-12)
    assert quiet == pytest.approx(samples / 3.981, abs=1e-4)


def test_a_shift_delays_and_loses_nothing():
    samples = music(2.0, 8000)
    shifted = tool.shift(samples, 8000, chance())
    assert np.array_equal(shifted[4000:], samples[:-4000])
    assert np.array_equal(shifted[:4000], samples[-4000:])


def test_reverberation_falls_by_60_db_in_its_time_and_keeps_the_level():
    rate = 16_000
    click = np.zeros(rate, np.float32)
    click[0] = 1
    tail = tool.reverberation(click, rate, chance())[1:]
    left = 10 * np.log10(np.cumsum(np.square(tail, dtype=float)[::-1])[::-1] + 1e-30)  # Schroeder
    between = np.flatnonzero((left < left[0] - 5) & (left > left[0] - 35))  # T30 of ISO 3382
    slope = np.polyfit(between / rate, left[between], 1)[0]
    assert -60 / slope == pytest.approx(tool.RT60, rel=0.1)
    samples = music(2.0, rate)
    wet = tool.reverberation(samples, rate, chance())
    assert level(wet) == pytest.approx(level(samples), abs=0.01)
    assert lag(samples, wet) == 0
