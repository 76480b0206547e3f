"""Test whether B is better than A, paired by clip, with an interval and an exact test.

A and B are experiments, Git revisions or "workspace", or several of them (folds, seeds) separated
by commas. For example: python -m tools.compare HEAD workspace
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from genrepro.core.errors import PipelineError
from genrepro.core.stage import run
from genrepro.evaluation.intervals import bootstrap, clusters
from tools import runs

RESAMPLES = 10_000
SEED = 42  # of the bootstrap: the same runs give the same interval


def compare(
    a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame], *, confidence: float = 0.95
) -> dict[str, Any]:
    """Compare two families of runs on the clips that both were tested on.

    A clip's score is the share of a family's runs that predicted it correctly. The interval of the
    difference resamples clips, by group where known. The exact test is the sign test over clips
    on which the families differ; with one run per side it is McNemar's exact test. Both take the
    models as fixed: the variation between trainings shows only in families of several seeds.

    Returns:
        clips, units (groups, or clips without a group), runs, accuracy of both, difference
        (b - a) with its interval, the number of clips on which each side is better, p of the
        exact test, and `better`: "a", "b", or None if the interval contains 0 or p is too large.

    Raises:
        PipelineError: no clip is in both, or a clip's label differs.
    """
    first, second = _by_clip(a), _by_clip(b)
    both = first.join(second, how="inner", lsuffix="_a", rsuffix="_b").sort_index()
    if both.empty:
        raise PipelineError(
            "the two have no test clip in common, so they cannot be paired: compare runs with the "
            "same split.protocol, split.fold and seed, or complete sets of folds."
        )
    if (different := both["label_a"] != both["label_b"]).any():
        clip = both.index[different][0]
        raise PipelineError(
            f"{clip} is {both.at[clip, 'label_a']!r} in one and {both.at[clip, 'label_b']!r} in "
            "the other: the two come from different corpora."
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
    low, high = interval["low"], interval["high"]
    clear = low is not None and high is not None and (low > 0 or high < 0) and p < 1 - confidence
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
        "p": p,  # not rounded, because it may be tiny
        "better": ("b" if gain.mean() > 0 else "a") if clear else None,
    }


def sentence(result: dict, a: str, b: str) -> str:
    """The result in one sentence that can be quoted."""
    points = 100 * result["difference"]
    low, high = result["interval"]["low"], result["interval"]["high"]
    level = f"{result['confidence']:.0%} interval"
    if result["better"] is None:
        known = "no interval" if low is None else f"{level} {100 * low:+.1f} to {100 * high:+.1f}"
        return (
            f"The difference between {b} and {a} may be chance: {points:+.1f} points, {known}, "
            f"on {result['clips']} clips (p = {result['p']:.2g})."
        )
    better, worse = (b, a) if result["better"] == "b" else (a, b)
    ends = sorted((abs(100 * low), abs(100 * high)))
    return (
        f"{better} is better than {worse} by {abs(points):.1f} points, {level} {ends[0]:.1f} to "
        f"{ends[1]:.1f}, on {result['clips']} clips (p = {result['p']:.2g})."
    )


def _by_clip(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Each clip's label, group and share of correct predictions."""
    rows = pd.concat(frames, ignore_index=True)
    rows["correct"] = (rows["label"] == rows["predicted"]).astype(float)
    rows["group"] = rows["group"].fillna("").astype(str)
    return rows.groupby("clip").agg(
        label=("label", "first"), group=("group", "first"), correct=("correct", "mean")
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="the baseline, e.g. main or exp-1,exp-2")
    parser.add_argument("b", metavar="B", help="the candidate, e.g. workspace")
    parser.add_argument("--json", action="store_true", help="print all results as JSON")
    args = parser.parse_args()
    result = compare(runs.family(args.a), runs.family(args.b))
    summary = sentence(result, args.a, args.b)
    if args.json:
        print(json.dumps({"sentence": summary, "a": args.a, "b": args.b, **result}, indent=2))
        return
    print(summary)
    for name, side in ((args.a, "a"), (args.b, "b")):
        print(
            f"  {100 * result[f'accuracy_{side}']:5.1f}  {name}: {result[f'runs_{side}']} run(s), "
            f"better on {result[f'clips_{side}_better']} clips"
        )
    if alone := result["clips_in_one_only"]:
        print(f"  {alone} clip(s) that only one of the two was tested on were ignored.")


if __name__ == "__main__":
    run(main)
