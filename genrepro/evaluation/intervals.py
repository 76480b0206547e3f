"""Confidence intervals for what is measured on a sample of clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

Interval = dict[str, float | None]  # {"low": …, "high": …}; None where there is no interval


def wilson(successes: int, trials: int, confidence: float) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927), assuming independent trials."""
    if not trials:
        return {"low": None, "high": None}
    found = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return {"low": round(float(found.low), 6), "high": round(float(found.high), 6)}


def clusters(clips: Sequence[str], groups: Sequence[str]) -> np.ndarray:
    """Number the units to resample: each group is one unit, and so is each clip without a group.

    A clip that appears several times, as in the runs of several seeds, is still one unit.

    Returns:
        (rows,) integers from 0, numbered in the order of the units' names.
    """
    names = [f"group {group}" if group else f"clip {clip}" for clip, group in zip(clips, groups)]
    return np.unique(names, return_inverse=True)[1]


def bootstrap(
    columns: np.ndarray,
    units: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> list[Interval]:
    """Percentile bootstrap intervals that resample whole units (the cluster bootstrap).

    An artist's clips tend to be right or wrong together, so resampling single clips would give an
    interval that is too narrow (Davison and Hinkley 1997, section 3.8). Percentiles and not BCa,
    because BCa is undefined where all clips are right.

    Args:
        columns: (rows, columns), per-row quantities; the statistic uses only their sums.
        units: (rows,), the unit of each row, as numbered by clusters().
        statistic: maps sums (..., columns) to values (values, ...).
        confidence: level of the intervals.
        resamples: number of resamples.
        seed: of the resampling.

    Returns:
        One interval per value; its ends are None if there are fewer than two units.
    """
    count = int(units.max()) + 1
    sums = np.zeros((count, columns.shape[1]))
    np.add.at(sums, units, columns)
    if count < 2:
        return [{"low": None, "high": None} for _ in statistic(sums.sum(axis=0))]

    def of_resamples(drawn: np.ndarray, axis: int) -> np.ndarray:
        drawn = np.atleast_2d(drawn)  # (resamples, units): the units drawn
        rows = np.arange(len(drawn))[:, None] * count
        times = np.bincount((drawn + rows).ravel(), minlength=len(drawn) * count)
        return statistic(times.reshape(len(drawn), count) @ sums)

    result = stats.bootstrap(
        (np.arange(count),),
        of_resamples,
        n_resamples=resamples,
        batch=max(1, 4_000_000 // count),  # 32 MB of indices at a time
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return [
        {"low": round(float(a), 6), "high": round(float(b), 6)}
        for a, b in zip(np.atleast_1d(low).ravel(), np.atleast_1d(high).ravel(), strict=True)
    ]
