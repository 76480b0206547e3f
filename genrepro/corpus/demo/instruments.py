"""The sound of the demo corpus: pitched voices and drums, computed with numpy from a few numbers.

A pitched note is read from a band-limited wavetable. Everything is float64 and continuous in its
inputs: processors may differ in the last bit, which rounding to 16 bits removes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.signal import butter, sosfilt

TABLE = 2048  # samples in one period; linear interpolation keeps 60 harmonics clean


@dataclass(frozen=True)
class Voice:
    """A pitched instrument. Times in seconds, pitches in semitones, frequencies in Hz."""

    tilt: float  # harmonic k has the amplitude k ** -tilt: 1 is a sawtooth, 3 nearly a sine
    even: float = 1.0  # weight of even harmonics: 0 is a square wave or a clarinet
    pick: float = 0.0  # where a string is plucked, as a share of its length
    formants: tuple[float, ...] = ()  # resonances of the body or the mouth
    drawbars: tuple[float, ...] = ()  # the harmonics themselves, in place of tilt
    attack: float = 0.005
    decay: float = 0.0  # time constant; 0 sustains
    release: float = 0.06
    bright: float = 0.0  # how much flatter the tilt is at the attack
    mellow: float = 0.15  # time constant with which that brightness goes
    vibrato: float = 0.0
    glide: float = 0.0  # where the pitch comes from, relative to the note
    breath: float = 0.0  # share of noise
    detune: float = 0.0  # between two players


VOICES = {
    "piano": Voice(1.7, decay=0.9, bright=0.8, attack=0.003, release=0.1),
    "electric piano": Voice(2.6, even=0.5, decay=0.9, bright=1.0, mellow=0.08),
    "organ": Voice(1.0, drawbars=(1, 0.8, 0.6, 0.4, 0, 0.3, 0, 0.3), vibrato=0.08, attack=0.01),
    "harpsichord": Voice(0.8, pick=0.12, decay=0.5, attack=0.002),
    "acoustic guitar": Voice(1.2, pick=0.18, decay=0.5, bright=0.7, attack=0.003),
    "clean guitar": Voice(1.4, pick=0.24, decay=0.8, bright=0.5, attack=0.003),
    "electric guitar": Voice(1.2, pick=0.15, decay=2.5, bright=0.3, vibrato=0.12),
    "banjo": Voice(0.8, pick=0.08, decay=0.16, formants=(900, 2400), attack=0.002),
    "steel guitar": Voice(1.5, decay=2.0, glide=-2, vibrato=0.25, attack=0.04, release=0.15),
    "fiddle": Voice(1.0, formants=(500, 1300, 2800), vibrato=0.2, glide=-0.5, attack=0.05),
    "strings": Voice(1.2, formants=(450, 1200), detune=0.14, vibrato=0.1, attack=0.1, release=0.25),
    "cello": Voice(1.3, formants=(250, 700, 1500), vibrato=0.15, attack=0.08, release=0.2),
    "flute": Voice(2.6, vibrato=0.2, breath=0.05, attack=0.05),
    "clarinet": Voice(1.4, even=0.1, attack=0.03),
    "oboe": Voice(1.0, formants=(1100, 2700), vibrato=0.12, attack=0.03),
    "trumpet": Voice(0.9, formants=(1200, 2500), attack=0.03, bright=-0.6, mellow=0.05),
    "saxophone": Voice(
        1.0, formants=(700, 1700), glide=-0.6, vibrato=0.15, breath=0.06, attack=0.03
    ),
    "brass": Voice(0.9, formants=(1100, 2200), detune=0.12, attack=0.03),
    "harmonica": Voice(0.7, even=0.6, formants=(1600, 2600), glide=-1, vibrato=0.3, attack=0.04),
    "vibraphone": Voice(1.0, drawbars=(1, 0, 0, 0.35, 0, 0, 0, 0, 0, 0.1), decay=0.8),
    "singer": Voice(1.1, formants=(650, 1150, 2700), vibrato=0.25, glide=-0.8, attack=0.05),
    "rapper": Voice(0.8, formants=(550, 1500, 2500), glide=3, attack=0.01, decay=0.2, breath=0.25),
    "growler": Voice(0.6, formants=(400, 900, 2200), glide=-3, attack=0.02, breath=0.7),
    "synth lead": Voice(1.0, even=0.4, detune=0.18, attack=0.01, vibrato=0.06),
    "synth pluck": Voice(1.6, decay=0.18, bright=0.9, mellow=0.06, detune=0.15),
    "pad": Voice(1.7, detune=0.16, attack=0.2, release=0.3),
    "upright bass": Voice(2.1, decay=0.4, bright=0.6, mellow=0.05, attack=0.008),
    "finger bass": Voice(1.9, pick=0.2, decay=0.8, bright=0.5, mellow=0.08),
    "picked bass": Voice(1.3, pick=0.12, decay=0.9, bright=0.4),
    "synth bass": Voice(1.5, even=0.7, decay=0.7, bright=0.7, mellow=0.08),
    "sub bass": Voice(3.5, decay=0.7, glide=5, attack=0.003),
}


def vary(voice: Voice, band: np.random.Generator) -> Voice:
    """A band's own variant of an instrument."""
    tilt, pick, decay, attack, vibrato, body = band.uniform(-1, 1, 6)
    return replace(
        voice,
        tilt=voice.tilt + 0.2 * tilt,
        pick=voice.pick * (1 + 0.3 * pick),
        decay=voice.decay * 1.35**decay,
        attack=voice.attack * 1.4**attack,
        vibrato=voice.vibrato * 1.5**vibrato,
        formants=tuple(hertz * 1.12**body for hertz in voice.formants),
    )


def note(voice: Voice, midi: float, seconds: float, rate: int) -> np.ndarray:
    """One note: (samples,) float64, about unit RMS at its loudest, `seconds` long plus its release.

    Args:
        midi: the pitch; 69 is 440 Hz.
    """
    hertz = 440 * 2 ** ((midi - 69) / 12)
    t = np.arange(int((seconds + voice.release) * rate)) / rate
    if not voice.detune:
        sound = _wave(voice, hertz, t, rate)
    else:
        spread = 2 ** (voice.detune / 24)
        sound = 0.7 * (
            _wave(voice, hertz * spread, t, rate) + _wave(voice, hertz / spread, t, rate)
        )
    if voice.breath:
        sound += voice.breath * _breath(rate, len(t))
    return sound * _envelope(voice, t, seconds)


def _wave(voice: Voice, hertz: float, t: np.ndarray, rate: int) -> np.ndarray:
    cycles = hertz * t
    if voice.vibrato:  # the integral of a sine that moves the frequency at 5.5 Hz
        depth, speed = hertz * voice.vibrato * np.log(2) / 12, 2 * np.pi * 5.5
        cycles += depth / speed * (1 - np.cos(speed * t))
    if voice.glide:  # the integral of a detuning that decays within 50 ms
        cycles += hertz * (2 ** (voice.glide / 12) - 1) * 0.05 * (1 - np.exp(-t / 0.05))
    position = cycles * TABLE
    index = position.astype(np.int64)
    position -= index
    index &= TABLE - 1
    wave, slope = _table(voice, hertz, rate, 0.0)
    sound = slope[index] * position + wave[index]
    if voice.bright:
        wave, slope = _table(voice, hertz, rate, voice.bright)
        sound += np.exp(-t / voice.mellow) * (slope[index] * position + wave[index] - sound)
    return sound


def _table(voice: Voice, hertz: float, rate: int, bright: float) -> tuple[np.ndarray, np.ndarray]:
    """One period at unit RMS, and the step from each of its samples to the next."""
    harmonic = np.arange(1, max(2, int(0.46 * rate / hertz) + 1))
    amplitude = harmonic ** -(voice.tilt - bright)
    if voice.drawbars:
        amplitude = np.array(voice.drawbars, dtype=float)[: len(harmonic)]
    amplitude[1::2] *= voice.even
    if voice.pick:
        amplitude *= np.abs(np.sin(np.pi * harmonic * voice.pick))
    if voice.formants:
        far = np.log2(harmonic[:, None] * hertz / np.array(voice.formants))
        amplitude *= 0.15 + np.exp(-((far / 0.35) ** 2)).sum(axis=1)
    amplitude /= np.sqrt(np.sum(amplitude**2) / 2)
    spectrum = np.zeros(TABLE // 2 + 1, dtype=complex)
    turns = 0.5 * harmonic[: len(amplitude)] ** 2  # spread phases have lower peaks than a pulse
    spectrum[1 : len(amplitude) + 1] = amplitude * np.exp(1j * turns) * TABLE / 2
    wave = np.fft.irfft(spectrum)
    return wave, np.roll(wave, -1) - wave


def _envelope(voice: Voice, t: np.ndarray, seconds: float) -> np.ndarray:
    shape = np.minimum(1.0, t / voice.attack)
    if voice.decay:
        shape *= np.exp(-t / voice.decay)
    return shape * np.clip((seconds + voice.release - t) / voice.release, 0, 1) ** 2


@lru_cache(maxsize=4)
def _noise(rate: int) -> np.ndarray:
    """Ten seconds of white noise, from which every instrument takes its own."""
    return np.random.Generator(np.random.PCG64(20)).standard_normal(10 * rate)


def _breath(rate: int, samples: int) -> np.ndarray:
    return np.resize(_noise(rate), samples)


@dataclass(frozen=True)
class Kit:
    """One band's drums: tune, ring and bright are factors around 1; seed selects the noise."""

    tune: float = 1.0
    ring: float = 1.0
    bright: float = 1.0
    seed: int = 0


# Membranes: initial and final pitch in Hz, time constants of pitch and loudness, share of noise
MEMBRANES = {
    "kick": (150, 52, 0.03, 0.13, 0.02),
    "808 kick": (170, 45, 0.04, 0.32, 0.0),
    "hard kick": (230, 62, 0.015, 0.07, 0.12),
    "tom": (190, 110, 0.06, 0.2, 0.03),
    "conga": (330, 290, 0.02, 0.12, 0.03),
    "snare": (240, 185, 0.02, 0.07, 0.75),
    "side stick": (900, 820, 0.01, 0.02, 0.25),
}
# Noises: the band in Hz, time constant of the decay, attack
NOISES = {
    "wires": (900, 7000, 0.11, 0.001),  # of a snare
    "clap": (900, 3600, 0.09, 0.001),
    "closed hat": (5500, 7900, 0.03, 0.001),
    "open hat": (5000, 7900, 0.16, 0.002),
    "pedal hat": (4500, 7600, 0.025, 0.004),
    "ride": (3800, 7600, 0.18, 0.001),
    "crash": (2500, 7900, 0.7, 0.002),
    "shaker": (4000, 7500, 0.035, 0.02),
    "brush": (1800, 6500, 0.12, 0.04),
    "tambourine": (5200, 7900, 0.08, 0.005),
}
METAL = {"ride": 0.5, "crash": 0.15, "open hat": 0.3, "closed hat": 0.2, "tambourine": 0.4}


@lru_cache(maxsize=512)
def hit(kit: Kit, drum: str, rate: int) -> np.ndarray:
    """One drum hit: (samples,) float64, peaking near 1. Cached, so do not modify it."""
    if drum in MEMBRANES:
        sound = _membrane(kit, *MEMBRANES[drum], rate)
    else:
        sound = _cymbal(kit, drum, rate)
    if drum == "snare":
        rattle = _cymbal(kit, "wires", rate)
        size = max(len(sound), len(rattle))
        sound = 0.6 * np.pad(sound, (0, size - len(sound))) + np.pad(
            rattle, (0, size - len(rattle))
        )
    if drum == "clap":  # several hands
        hands = [np.pad(sound, (int(s * rate), 0))[: len(sound)] for s in (0.0, 0.011, 0.023)]
        sound = hands[0] + hands[1] + hands[2]
    sound = sound / np.abs(sound).max()
    sound[-64:] *= np.linspace(1, 0, 64)
    return sound


def _membrane(
    kit: Kit, high: float, low: float, fall: float, ring: float, noise: float, rate: int
) -> np.ndarray:
    t = np.arange(int(5 * ring * kit.ring * rate)) / rate
    cycles = kit.tune * (low * t + (high - low) * fall * (1 - np.exp(-t / fall)))
    sound = np.sin(2 * np.pi * cycles) * np.exp(-t / (ring * kit.ring))
    return sound + noise * _own_noise(kit, rate, len(t)) * np.exp(-t / 0.012)


def _cymbal(kit: Kit, drum: str, rate: int) -> np.ndarray:
    bottom, top, ring, attack = NOISES[drum]
    most = 0.49 * rate
    low, high = min(bottom * kit.bright, 0.8 * most), min(top * kit.bright, most)
    t = np.arange(int(5 * ring * kit.ring * rate)) / rate
    sound = _own_noise(kit, rate, len(t))
    if drum in METAL:  # six square-like partials in the ratios of the TR-808's cymbal circuit
        partials = np.array([205, 304, 370, 523, 540, 800]) * 2 * kit.tune
        clang = np.sign(np.sin(2 * np.pi * np.outer(partials, t) + 0.1)).sum(axis=0)
        sound = sound * (1 - METAL[drum]) + clang * METAL[drum]
    sound = sosfilt(butter(2, (low, high), "bandpass", fs=rate, output="sos"), sound)
    return sound * np.minimum(1, t / attack) * np.exp(-t / (ring * kit.ring))


def _own_noise(kit: Kit, rate: int, samples: int) -> np.ndarray:
    return np.resize(np.roll(_noise(rate), -7919 * kit.seed), samples)
