"""A band of the demo corpus: its style and its instruments recur in all its songs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from genrepro.corpus.demo.instruments import VOICES, Kit, Voice, vary
from genrepro.corpus.demo.score import Score

T = TypeVar("T")
Begin = Callable[..., Score]


class Band:
    """Random choices that belong to a band and recur in all its songs."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

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
        return vary(VOICES[self.pick(*names)], self.rng)

    def kit(self) -> Kit:
        tune, ring, bright = 1.3 ** self.rng.uniform(-1, 1, 3)
        return Kit(tune, ring, bright, int(self.rng.integers(1000)))


def song_of(score: Score, favourites: tuple[T, T]) -> T:
    """The song's choice between its band's two favourites."""
    return favourites[int(score.rng.random() < 0.4)]
