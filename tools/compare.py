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

from genrepro.core.errors import PipelineError
from genrepro.core.stage import run
from genrepro.evaluation.intervals import Interval, clusters, difference, sign_flip, unit_sums
from tools import runs

FEWEST_UNITS = 10  # groups, or clips without one, below which neither is called better


def compare(
    a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame], *, confidence: float = 0.95
) -> dict[str, Any]:
    """Compare two families of runs on the clips that both were tested on.

    A clip's score is the share of a family's runs that predicted it correctly. The interval of the
    difference and the exact test (random signs) take a group's clips together where groups are
    known; without groups and with one run per side the test is McNemar's. Both take the models as
    fixed: the variation between trainings shows only in families of several seeds.

    Returns:
        clips, units (groups, or clips without a group), runs, accuracy of both, difference
        (b - a) with its interval, the number of clips on which each side is better, p of the
        exact test, and `better`: "a", "b", or None if the interval contains 0, p is too large, or
        there are fewer than FEWEST_UNITS units.

    Raises:
        PipelineError: no clip is in both, or a clip's label differs.
    """
    first, second = _by_clip(a), _by_clip(b)
    both = pd.merge(first, second, left_index=True, right_index=True, suffixes=("_a", "_b"))
    both = both.sort_index()
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
    sizes, gains = unit_sums(np.column_stack([np.ones(len(gain)), gain]), units).T
    interval, p = difference(gains, sizes, confidence), sign_flip(gains)
    clear = len(sizes) >= FEWEST_UNITS and excludes_zero(interval) and p < 1 - confidence
    return {
        "clips": len(both),
        "units": len(sizes),
        "clips_in_one_only": len(first) + len(second) - 2 * len(both),
        "runs_a": len(a),
        "runs_b": len(b),
        "accuracy_a": round(float(both["correct_a"].mean()), 6),
        "accuracy_b": round(float(both["correct_b"].mean()), 6),
        "difference": round(float(gain.mean()), 6),
        "interval": interval,
        "confidence": confidence,
        "clips_a_better": int((gain < -1e-9).sum()),
        "clips_b_better": int((gain > 1e-9).sum()),
        "p": p,  # not rounded, because it may be tiny
        "better": ("b" if gain.mean() > 0 else "a") if clear else None,
    }


def excludes_zero(interval: Interval) -> bool:
    low, high = interval["low"], interval["high"]
    return low is not None and high is not None and (low > 0 or high < 0)


def sentence(result: dict, a: str, b: str) -> str:
    """The result in one sentence that can be quoted."""
    points, clips, units = 100 * result["difference"], result["clips"], result["units"]
    sample = f"{clips} clips" if units == clips else f"{clips} clips of {units} groups"
    if units < FEWEST_UNITS:
        return (
            f"Nothing can be said about {b} and {a}: {points:+.1f} points on {sample}, but at "
            f"least {FEWEST_UNITS} groups are needed."
        )
    low, high = 100 * result["interval"]["low"], 100 * result["interval"]["high"]
    level, chance = f"{result['confidence']:.0%} interval", f"on {sample} (p = {result['p']:.2g})"
    if result["better"] is None:
        return (
            f"The difference between {b} and {a} may be chance: {points:+.1f} points, {level} "
            f"{low:+.1f} to {high:+.1f}, {chance}."
        )
    better, worse = (b, a) if result["better"] == "b" else (a, b)
    least, most = sorted((abs(low), abs(high)))
    return (
        f"{better} is better than {worse} by {abs(points):.1f} points, {level} {least:.1f} to "
        f"{most:.1f}, {chance}."
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
