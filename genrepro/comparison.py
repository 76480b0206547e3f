"""Is one model better than another, or is it chance? And: many runs of one recipe as one result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from genrepro.intervals import bootstrap, clusters
from genrepro.runtime import PipelineError
from genrepro.scoring import score

RESAMPLES = 10_000
SEED = 42  # of the bootstrap: the same runs give the same interval


def compare(
    a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame], *, confidence: float = 0.95
) -> dict[str, object]:
    """Compare two families of runs on the clips that both were tested on.

    A clip counts with the share of a family's runs that were right about it. The interval of the
    difference resamples clips, by group where known. The exact test is the sign test over clips
    on which the families differ; with one verdict a clip on each side it is McNemar's exact test.
    Both treat the models as given: that training again would give other models shows only where
    families hold several seeds.

    Returns:
        clips, units (groups, or clips without a group), runs, accuracy of both, difference
        (b - a) with its interval, the number of clips on which each side is better, p of the
        exact test, and `better`: "a", "b", or None where the interval holds 0 or p is too large.

    Raises:
        PipelineError: no clip is in both, or a clip's label differs.
    """
    first, second = _by_clip(a), _by_clip(b)
    both = first.join(second, how="inner", lsuffix="_a", rsuffix="_b").sort_index()
    if both.empty:
        raise PipelineError(
            "The two have no test clip in common, so nothing can be paired: compare runs with the "
            "same split.protocol, split.fold and seed, or whole families of folds."
        )
    if (different := both["label_a"] != both["label_b"]).any():
        clip = both.index[different][0]
        raise PipelineError(
            f"{clip} is {both.at[clip, 'label_a']!r} in one and {both.at[clip, 'label_b']!r} in "
            "the other: the two were made from different corpora."
        )
    gain = (both["correct_b"] - both["correct_a"]).to_numpy()
    units = clusters(both.index.tolist(), both["group_a"].tolist())
    interval = bootstrap(
        np.column_stack([np.ones(len(gain)), gain]),
        units,
        lambda sums: (sums[..., 1] / sums[..., 0])[None],
        confidence=confidence,
        resamples=RESAMPLES,
        seed=SEED,
    )[0]
    a_better, b_better = int((gain < -1e-9).sum()), int((gain > 1e-9).sum())
    differing = a_better + b_better
    p = float(binomtest(b_better, differing).pvalue) if differing else 1.0
    clear = interval["low"] is not None and (interval["low"] > 0 or interval["high"] < 0)
    clear = clear and p < 1 - confidence
    return {
        "clips": len(both),
        "units": int(units.max()) + 1,
        "clips_in_one_only": len(first) + len(second) - 2 * len(both),
        "runs_a": len(a),
        "runs_b": len(b),
        "accuracy_a": round(float(both["correct_a"].mean()), 6),
        "accuracy_b": round(float(both["correct_b"].mean()), 6),
        "difference": round(float(gain.mean()), 6),
        "interval": interval,
        "confidence": confidence,
        "clips_a_better": a_better,
        "clips_b_better": b_better,
        "p": p,  # not rounded: it may be very small
        "better": ("b" if gain.mean() > 0 else "a") if clear else None,
    }


def sentence(result: dict, a: str, b: str) -> str:
    """One sentence that a person can quote."""
    points = 100 * result["difference"]
    low, high = result["interval"]["low"], result["interval"]["high"]
    level = f"{result['confidence']:.0%} interval"
    if result["better"] is None:
        known = "no interval" if low is None else f"{level} {100 * low:+.1f} to {100 * high:+.1f}"
        return (
            f"{b} and {a} cannot be told from chance: {points:+.1f} points, {known}, "
            f"on {result['clips']} clips (p = {result['p']:.2g})."
        )
    better, worse = (b, a) if result["better"] == "b" else (a, b)
    ends = sorted((abs(100 * low), abs(100 * high)))
    return (
        f"{better} is better than {worse} by {abs(points):.1f} points, {level} {ends[0]:.1f} to "
        f"{ends[1]:.1f}, on {result['clips']} clips (p = {result['p']:.2g})."
    )


def pool(frames: Sequence[pd.DataFrame], *, confidence: float = 0.95) -> dict[str, object]:
    """Many runs of one recipe as one result: folds, seeds, or both.

    Returns:
        runs, clips (each counted once) and units; `accuracies` of the runs with their mean,
        standard deviation (None for one run), lowest and highest; accuracy and macro F1 over all
        verdicts, with intervals that resample clips, by group where known, so that a clip that
        several seeds judged counts as one; Wilson's interval where each clip was judged once.
    """
    accuracies = [float((frame["label"] == frame["predicted"]).mean()) for frame in frames]
    everything = pd.concat(frames, ignore_index=True)
    labels = sorted(column[2:] for column in everything if column.startswith("p_"))
    figures = score(everything, labels, confidence, RESAMPLES, SEED)
    unique = everything["clip"].nunique()
    spread = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None
    return {
        "runs": len(frames),
        "clips": unique,
        "units": figures["units"],
        "mean": round(float(np.mean(accuracies)), 6),
        "standard_deviation": None if spread is None else round(spread, 6),
        "lowest": round(min(accuracies), 6),
        "highest": round(max(accuracies), 6),
        "accuracy": figures["accuracy"],
        "accuracy_interval": figures["accuracy_by_group_interval"],
        "wilson_interval": figures["accuracy_interval"] if unique == len(everything) else None,
        "macro_f1": figures["macro_f1"],
        "macro_f1_interval": figures["macro_f1_interval"],
        "confidence": confidence,
        "accuracies": [round(accuracy, 6) for accuracy in accuracies],
    }


def _by_clip(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Each clip's label, group and share of right verdicts."""
    rows = pd.concat(frames, ignore_index=True)
    rows["correct"] = (rows["label"] == rows["predicted"]).astype(float)
    rows["group"] = rows["group"].fillna("").astype(str)
    return rows.groupby("clip").agg(
        label=("label", "first"), group=("group", "first"), correct=("correct", "mean")
    )
