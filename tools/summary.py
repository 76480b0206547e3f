"""Pool the folds and seeds of each recipe: mean, spread, and one accuracy with its interval.

Runs whose parameters differ only in seed and split.fold belong to one recipe. Without names, it
takes all experiments based on the current commit. For example:
python -m tools.summary --format markdown
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from genrepro.core.errors import PipelineError
from genrepro.core.stage import run
from genrepro.evaluation.scoring import score
from tools import runs

REPEATED = ("seed", "split.fold")  # the parameters that repeat a recipe without changing it


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.summary",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", metavar="RUN", help="an experiment, a Git revision, or workspace"
    )
    parser.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    args = parser.parse_args()
    names = args.names or runs.experiments()
    if not names:
        raise PipelineError(
            "there are no experiments based on this commit: type `dvc exp run --queue -S "
            "'split.fold=range(0,5)'`, then `dvc queue start`; or name the runs."
        )
    recipes = pooled({name: runs.parameters(name) for name in names})
    print(json.dumps(recipes, indent=2) if args.format == "json" else table(recipes, args.format))


def pooled(parameters: dict[str, dict[str, object]]) -> list[dict[str, Any]]:
    """Pool runs by recipe, best first.

    Args:
        parameters: run -> its parameters, flat.

    Returns:
        For each recipe: `recipe` (the parameters in which recipes differ), `names` of its runs,
        and the result of pool(). Of runs with equal parameters, only the first counts.
    """
    families: dict[str, dict[str, str]] = defaultdict(dict)
    for name in sorted(parameters):
        kept = {key: value for key, value in parameters[name].items() if key not in REPEATED}
        repeat = json.dumps([parameters[name].get(key) for key in REPEATED])
        families[json.dumps(kept, sort_keys=True)].setdefault(repeat, name)
    settings = [json.loads(family) for family in families]
    every = sorted({key for setting in settings for key in setting})
    varied = [key for key in every if len({json.dumps(s.get(key)) for s in settings}) > 1]
    recipes = [
        {
            "recipe": {key: setting.get(key) for key in varied},
            "names": list(family.values()),
            **pool([runs.predictions(name) for name in family.values()]),
        }
        for setting, family in zip(settings, families.values())
    ]
    return sorted(recipes, key=lambda recipe: -recipe["accuracy"])


def table(recipes: list[dict], style: str) -> str:
    """The pooled recipes as plain text or as a Markdown table; accuracies in percent."""
    level = f"{recipes[0]['confidence']:.0%} interval"
    rows = [["recipe", "runs", "clips", "accuracy", level, "macro F1", "mean ± sd of runs"]]
    for recipe in recipes:
        interval, spread = recipe["accuracy_interval"], recipe["standard_deviation"]
        known = interval["low"] is not None
        setting = ", ".join(f"{key}={value}" for key, value in recipe["recipe"].items())
        rows.append(
            [
                setting or "all",
                str(recipe["runs"]),
                str(recipe["clips"]),
                f"{100 * recipe['accuracy']:.1f}",
                f"{100 * interval['low']:.1f} to {100 * interval['high']:.1f}" if known else "–",
                f"{100 * recipe['macro_f1']:.1f}",
                f"{100 * recipe['mean']:.1f}"
                + (f" ± {100 * spread:.1f}" if spread is not None else ""),
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths)] for row in rows]
    if style == "text":
        return "\n".join("  ".join(row).rstrip() for row in padded)
    rule = ["-" * width for width in widths]
    return "\n".join("| " + " | ".join(row) + " |" for row in [padded[0], rule, *padded[1:]])


def pool(frames: Sequence[pd.DataFrame], *, confidence: float = 0.95) -> dict[str, Any]:
    """Pool the runs of one recipe: folds, seeds, or both.

    Returns:
        runs, clips (each counted once) and units; `accuracies` of the runs with their mean,
        standard deviation (None for one run), lowest and highest; accuracy and macro F1 over all
        predictions, with intervals over groups where they are known and over clips elsewhere, so
        that a clip tested with several seeds counts once; Wilson's if each was tested once.
    """
    accuracies = [float((frame["label"] == frame["predicted"]).mean()) for frame in frames]
    everything = pd.concat(frames, ignore_index=True)
    labels = sorted(column[2:] for column in everything if column.startswith("p_"))
    figures = score(everything, labels, confidence)
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


if __name__ == "__main__":
    run(main)
