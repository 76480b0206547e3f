"""Confidence intervals and tests for results on a sample of clips, some of them in groups.

A group's clips (of one artist, band or speaker) tend to be predicted rightly or wrongly together,
so the sample is one of groups ("units"), not of clips. docs/protocol.md has the coverage of these
intervals in simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

Interval = dict[str, float | None]  # {"low": …, "high": …}; None where there is no interval

NO_INTERVAL: Interval = {"low": None, "high": None}
RESAMPLES = 20_000  # of the sign-flip test, which is exact for up to 14 units that differ
SEED = 42  # of the sign-flip test: the same predictions give the same p
FEW_DIFFERING = 6  # units; fewer can never be significant at 0.05: 2 / 2**5 is above it


@dataclass(frozen=True)
class Estimate:
    """A statistic of a sample of units, with its jackknife variance.

    Attributes:
        value: the statistic.
        variance: of the value.
        freedom: degrees of freedom of the variance.
        rows: number of clips, counted as often as they were predicted.
        units: number of units.
        effective_units: the number of units of equal size that would weigh as much (Kish 1965).
    """

    value: float
    variance: float
    freedom: float
    rows: int
    units: int
    effective_units: float


def wilson(successes: int, trials: int, confidence: float) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927), assuming independent trials."""
    if not trials:
        return NO_INTERVAL
    found = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return _interval(found.low, found.high)


def clusters(clips: Sequence[str], groups: Sequence[str]) -> np.ndarray:
    """Number the units of a sample: each group is one, and so is each clip without a group.

    A clip that appears several times, as in the runs of several seeds, is still one unit.

    Returns:
        (rows,) integers from 0, numbered in the order of the units' names.
    """
    names = [f"group {group}" if group else f"clip {clip}" for clip, group in zip(clips, groups)]
    return np.unique(names, return_inverse=True)[1]


def unit_sums(columns: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Sum per-row quantities, (rows, columns), by unit: (units, columns)."""
    sums = np.zeros((int(units.max()) + 1, columns.shape[1]))
    np.add.at(sums, units, columns)
    return sums


def jackknife(sums: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> list[Estimate]:
    """Estimate statistics and their variances by leaving out one unit at a time.

    The degrees of freedom are Satterthwaite's (1946), with the fourth moments of the units'
    contributions: if a few units make up most of the variance, it is known as badly as from a
    sample of those few. The term that would raise them is omitted, to be on the safe side.

    Args:
        sums: (units, columns), as from unit_sums(); the first column counts rows.
        statistic: maps sums (..., columns) to values (values, ...).

    Returns:
        One estimate per value.
    """
    count, total = len(sums), sums.sum(axis=0)
    sizes = sums[:, 0]
    values = statistic(total)
    estimates = []
    left_out = statistic(total - sums) if count > 1 else np.zeros((len(values), 1))
    for value, others in zip(values, left_out):
        squares = (others - others.mean()) ** 2
        fourth = (squares**2).sum()
        contributing = squares.sum() ** 2 / fourth if fourth else count
        estimates.append(
            Estimate(
                value=float(value),
                variance=(count - 1) / count * squares.sum(),
                freedom=max(1.0, min(contributing, count - 1)),
                rows=round(total[0]),
                units=count,
                effective_units=total[0] ** 2 / (sizes**2).sum(),
            )
        )
    return estimates


def proportion(estimate: Estimate, confidence: float) -> Interval:
    """An interval for a value from 0 to 1, such as an accuracy (Korn and Graubard 1998).

    It is Clopper and Pearson's for as many independent trials as have the same variance, fewer
    where that variance is uncertain. They are at least as many as the (effective) units, which
    is the number where all clips of a unit are right or wrong together, and at most the clips.
    """
    if estimate.units < 2:
        return NO_INTERVAL
    value, tail = min(max(estimate.value, 0.0), 1.0), (1 - confidence) / 2
    trials = estimate.effective_units
    if 0 < value < 1:
        same = value * (1 - value) / estimate.variance if estimate.variance else np.inf
        uncertain = (stats.norm.isf(tail) / stats.t.isf(tail, estimate.freedom)) ** 2
        trials = max(trials, min(same, estimate.rows) * uncertain)
    right = value * trials
    wrong = trials - right
    low = stats.beta.ppf(tail, right, wrong + 1) if value > 0 else 0.0
    high = stats.beta.isf(tail, right + 1, wrong) if value < 1 else 1.0
    return _interval(low, high)


def positive(estimate: Estimate, confidence: float) -> Interval:
    """An interval for a positive value with a long tail, such as a loss: Student's, of its log."""
    if estimate.units < 2 or estimate.value <= 0:
        return NO_INTERVAL
    wide = stats.t.isf((1 - confidence) / 2, estimate.freedom)
    factor = np.exp(wide * np.sqrt(estimate.variance) / estimate.value)
    return _interval(estimate.value / factor, estimate.value * factor)


def difference(gains: np.ndarray, sizes: np.ndarray, confidence: float) -> Interval:
    """An interval for the mean of paired differences of clips, each from -1 to 1.

    Student's, with a lower bound of the variance: that of the clips if they were independent, with
    half a clip more in each cell of the table of who is right (Agresti and Min 2005). If fewer than
    FEW_DIFFERING units differ, nothing is known of how the clips of a unit go together: the units
    are then counted like clips, with one more in each cell.

    Args:
        gains: (units,), the sum of each unit's differences.
        sizes: (units,), the number of its clips.
    """
    if len(sizes) < 2:
        return NO_INTERVAL
    (estimate,) = jackknife(np.column_stack([sizes, gains]), lambda s: s[..., 1:].T / s[..., 0])
    variance = max(estimate.variance, _paired(np.abs(gains).sum(), gains.sum(), sizes.sum(), 0.5))
    freedom = estimate.freedom
    signs = np.sign(np.round(gains, 9))
    if np.abs(signs).sum() < FEW_DIFFERING:
        units = estimate.effective_units
        variance = max(variance, _paired(np.abs(signs).sum(), signs.sum(), units, 1))
        freedom = estimate.units - 1
    wide = stats.t.isf((1 - confidence) / 2, freedom) * np.sqrt(variance)
    return _interval(max(-1.0, estimate.value - wide), min(1.0, estimate.value + wide))


def _paired(differing: float, net: float, count: float, more: float) -> float:
    """Variance of a paired difference of proportions, with `more` in each of the four cells."""
    count += 4 * more
    return (differing + 2 * more - net**2 / count) / count**2


def sign_flip(gains: np.ndarray) -> float:
    """The p-value of no difference: how often random signs give as large a sum, on either side.

    Under no difference A and B can be swapped within a unit. With clips as units and one run per
    side it is McNemar's exact test.

    Args:
        gains: (units,), the sum of each unit's differences.
    """
    gains = gains[np.abs(gains) > 1e-9]
    if not len(gains):
        return 1.0
    if np.allclose(np.abs(gains), np.abs(gains[0])):
        return float(stats.binomtest(int((gains > 0).sum()), len(gains)).pvalue)
    found = stats.permutation_test(
        (gains,),
        lambda flipped, axis: flipped.sum(axis=axis),
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=max(1, 4_000_000 // len(gains)),  # 32 MB at a time
        rng=np.random.default_rng(SEED),
    )
    return float(found.pvalue)


def _interval(low: float, high: float) -> Interval:
    return {"low": round(float(low), 6), "high": round(float(high), 6)}
