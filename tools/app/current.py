"""The current run in figures, as the pages show it.

Files are read again for every request, so reloading the page is enough after another `dvc repro`.
"""

from __future__ import annotations

from tools import results


def headline() -> str:
    """The corpus and the test accuracy, as a line of Markdown."""
    test, corpus = results.test(), results.corpus()
    interval = test["accuracy_interval"]
    name = corpus["corpus"]["title"] or corpus["corpus"]["name"]
    return (
        f"**{name}**: {corpus['clips']:,} clips, "
        f"{len(corpus['labels'])} labels. Test accuracy **{test['accuracy']:.3f}** "
        f"({interval['low']:.3f} to {interval['high']:.3f}) on {test['clips']:,} clips."
    )


def metrics() -> str:
    """The figures of metrics/test.json and metrics/validation.json, as a Markdown table."""
    test, validation = results.test(), results.validation()
    by = "epoch" if "epoch" in validation else "penalty"
    rows = [
        _row("**test accuracy**", test, "accuracy"),
        _row("test macro F1", test, "macro_f1"),
        _row("test loss", test, "loss"),
        f"| test calibration error | {test['calibration_error']:.3f} | |",
        f"| validation accuracy, {by} {validation[by]:g} | {validation['accuracy']:.3f} | |",
    ]
    if test["units"] < test["clips"]:
        by_group = _interval(test["accuracy_by_group_interval"])
        rows.insert(1, f"| the same, by {test['units']} groups | | {by_group} |")
    return "\n".join(["| | | interval |", "|:--|--:|:--|", *rows])


def _row(name: str, test: dict, key: str) -> str:
    return f"| {name} | {test[key]:.3f} | {_interval(test[f'{key}_interval'])} |"


def _interval(interval: dict) -> str:
    if interval["low"] is None:
        return ""
    return f"{interval['low']:.3f} to {interval['high']:.3f}"
