"""How often intervals contain the truth, and how often `compare` is wrong, in simulation.

The table of docs/protocol.md: python -m tests.evaluation.test_coverage
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from genrepro.evaluation import intervals
from genrepro.evaluation.scoring import score
from tools.compare import FEWEST_UNITS, excludes_zero

GROUPS = (3, 5, 10, 20, 50)
SIZES = (8, None)  # clips per group; None: 1 to about 20, 6 on average
ALIKE = (0.0, 0.3, 0.6)  # correlation of the clips of a group
SAMPLES = 300  # per kind of sample; the table takes twice as many
LABELS = list("abcd")


def sizes_of(rng: np.random.Generator, groups: int, size: int | None) -> np.ndarray:
    return np.full(groups, size) if size else rng.geometric(1 / 6, groups)


def outcomes(rng, sizes: np.ndarray, shares: list[float], alike: float) -> np.ndarray:
    """(groups, outcomes) counts of clips; a group's own shares are drawn around `shares`."""
    means = np.array(shares)
    if not alike:
        return rng.multinomial(sizes, np.broadcast_to(means, (len(sizes), len(means))))
    drawn = rng.gamma(means * (1 - alike) / alike, size=(len(sizes), len(means))) + 1e-300
    return rng.multinomial(sizes, drawn / drawn.sum(axis=1, keepdims=True))


def contains(interval: intervals.Interval, truth: float) -> bool:
    return interval["low"] <= truth <= interval["high"]


def accuracy(groups: int, samples: int = SAMPLES) -> list[float]:
    """Coverage of the 95% interval of an accuracy, for each kind of sample."""
    found = []
    for truth, alike, size in itertools.product((0.6, 0.8, 0.95), ALIKE, SIZES):
        rng, held = np.random.default_rng(0), 0
        for _ in range(samples):
            sizes = sizes_of(rng, groups, size)
            right = outcomes(rng, sizes, [truth, 1 - truth], alike)[:, 0]
            sums = np.column_stack([sizes, right]).astype(float)
            (estimate,) = intervals.jackknife(sums, lambda s: s[..., 1:].T / s[..., 0])
            held += contains(intervals.proportion(estimate, 0.95), truth)
        found.append(held / samples)
    return found


def difference(groups: int, samples: int = SAMPLES) -> list[float]:
    """Coverage of the 95% interval of a difference, for each kind of sample."""
    found = []
    for (b, a), alike, size in itertools.product(
        ((0.1, 0.1), (0.03, 0.02), (0.25, 0.1)), ALIKE, SIZES
    ):
        rng, held = np.random.default_rng(1), 0
        for _ in range(samples):
            sizes = sizes_of(rng, groups, size)
            counts = outcomes(rng, sizes, [b, a, 1 - a - b], alike)
            gains = (counts[:, 0] - counts[:, 1]).astype(float)
            held += contains(intervals.difference(gains, sizes.astype(float), 0.95), b - a)
        found.append(held / samples)
    return found


def false_better(groups: int, samples: int = SAMPLES) -> list[float]:
    """How often one of two equally good models is called better, by the rule of `compare`."""
    found = []
    for alike, size in itertools.product(ALIKE, SIZES):
        rng, wrong = np.random.default_rng(2), 0
        for _ in range(samples if groups >= FEWEST_UNITS else 0):
            sizes = sizes_of(rng, groups, size)
            counts = outcomes(rng, sizes, [0.15, 0.15, 0.7], alike)
            gains = (counts[:, 0] - counts[:, 1]).astype(float)
            interval = intervals.difference(gains, sizes.astype(float), 0.95)
            wrong += excludes_zero(interval) and intervals.sign_flip(gains) < 0.05
        found.append(wrong / samples)
    return found


def f1_and_loss(groups: int, samples: int = SAMPLES // 2) -> tuple[list[float], list[float]]:
    """Coverage of the 95% intervals of macro F1 and of the loss, for each kind of sample."""
    found: tuple[list[float], list[float]] = ([], [])
    for strength, alike in ((2.5, 0.3), (4.0, 1.0)):
        rng = np.random.default_rng(3)
        truth = score(predictions(rng, 4000, strength, alike), LABELS, 0.95)
        held = np.zeros(2)
        for _ in range(samples):
            result = score(predictions(rng, groups, strength, alike), LABELS, 0.95)
            for index, name in enumerate(("macro_f1", "loss")):
                held[index] += contains(result[f"{name}_interval"], truth[name])
        for index in range(2):
            found[index].append(held[index] / samples)
    return found


def predictions(rng, groups: int, strength: float, alike: float) -> pd.DataFrame:
    """Groups of one label each, whose clips share a part (`alike`) of the noise in the logits."""
    group = np.repeat(np.arange(groups), sizes_of(rng, groups, None))
    label = rng.integers(0, len(LABELS), groups)[group]
    noise = rng.normal(0, alike, (groups, len(LABELS)))[group]
    logits = strength * np.eye(len(LABELS))[label] + noise
    p = softmax(logits + rng.normal(0, 1, logits.shape), axis=1)
    names = np.array(LABELS)
    return pd.DataFrame(
        {
            "clip": [f"c{number}" for number in range(len(group))],
            "label": names[label],
            "group": group.astype(str),
            "predicted": names[p.argmax(axis=1)],
            **{f"p_{name}": p[:, index] for index, name in enumerate(LABELS)},
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("groups", GROUPS)
def test_intervals_contain_the_truth_as_often_as_they_claim(groups):
    assert min(accuracy(groups)) >= 0.93
    assert min(difference(groups)) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("groups", [20, 50])
def test_macro_f1_and_loss_do_so_from_twenty_groups_on(groups):
    f1, loss = f1_and_loss(groups)
    assert min(*f1, *loss) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("groups", [10, 20, 50])
def test_equal_models_are_rarely_called_better(groups):
    """The test is exact; two standard errors of a simulation of 300 samples are 0.025."""
    assert max(false_better(groups)) <= 0.05 + 0.025


def main() -> None:
    print('| groups | accuracy | difference | macro F1 | loss | false "better", at most |')
    print("|---|---|---|---|---|---|")
    for groups in GROUPS:
        cells = [spread(accuracy(groups, 600)), spread(difference(groups, 600))]
        if groups >= 20:
            cells += [spread(values) for values in f1_and_loss(groups, 300)]
        else:
            cells += ["no interval", "no interval"]
        print(
            f"| {groups} | {' | '.join(cells)} | {max(false_better(groups, 3000)):.3f} |",
            flush=True,
        )


def spread(values: list[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


if __name__ == "__main__":
    main()
