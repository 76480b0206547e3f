"""A band of the demo corpus: what it owns, and how it plays one of its genres."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from genrepro.corpus.demo.instruments import VOICES, Kit, Voice, vary
from genrepro.corpus.demo.score import Score

T = TypeVar("T")
Begin = Callable[..., Score]

OWN = 0.1  # how often a band plays an instrument of its own where the genre has another
FAMILIES = (
    ("upright bass", "finger bass", "picked bass", "synth bass", "sub bass"),
    (
        *("piano", "electric piano", "organ", "harpsichord", "vibraphone", "synth pluck"),
        *("banjo", "acoustic guitar", "clean guitar", "electric guitar"),
    ),
    ("strings", "cello", "pad", "brass"),
    (
        *("fiddle", "steel guitar", "flute", "clarinet", "oboe", "trumpet", "saxophone"),
        *("harmonica", "singer", "rapper", "growler", "synth lead"),
    ),
)


def generator(*keys: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(keys)))


class Gear:
    """A band's drums and instruments, the same in every genre that it plays."""

    def __init__(self, *keys: int) -> None:
        rng = generator(*keys)
        tune, ring, bright = 1.3 ** rng.uniform(-1, 1, 3)
        self.kit = Kit(tune, ring, bright, int(rng.integers(1000)))
        self.own = [family[rng.integers(len(family))] for family in FAMILIES]
        self.keys = keys

    def voice(self, name: str) -> Voice:
        return vary(VOICES[name], generator(*self.keys, zlib.crc32(name.encode())))

    def replacement(self, name: str) -> str:
        """The band's own instrument of the same family."""
        return next(own for own, family in zip(self.own, FAMILIES) if name in family)


class Band:
    """A band in one genre: random choices that recur in all the songs it plays there."""

    def __init__(self, rng: np.random.Generator, gear: Gear) -> None:
        self.rng, self.gear = rng, gear

    def pick(self, *options: T) -> T:
        return options[self.rng.integers(len(options))]

    def two(self, *options: T) -> tuple[T, T]:
        """Two favourites, in order of preference."""
        first, second = self.rng.permutation(len(options))[:2]
        return options[first], options[second]

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def often(self, chance: float) -> bool:
        return bool(self.rng.random() < chance)

    def voice(self, *names: str) -> Voice:
        name = self.pick(*names)
        return self.gear.voice(self.gear.replacement(name) if self.often(OWN) else name)

    def kit(self) -> Kit:
        return self.gear.kit


def song_of(score: Score, favourites: tuple[T, T]) -> T:
    """The song's choice between its band's two favourites."""
    return favourites[int(score.rng.random() < 0.4)]
