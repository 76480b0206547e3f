"""What the pages share: clips for a player, and the run in figures.

Files are read again for every request, so reloading the page is enough after another `dvc repro`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from genrepro.core.errors import PipelineError
from genrepro.core.paths import RAW
from tools import results

ANY = "any"


@dataclass(frozen=True)
class Sound:
    """A clip for a player: its file and its caption."""

    path: str
    caption: str


def draw_clips(label: str, split: str, count: int) -> list[Sound]:
    """Choose clips at random, `count` of them if there are as many.

    Raises:
        PipelineError: there is no such clip, or no corpus yet.
    """
    frame = results.clips()
    if label != ANY:
        frame = frame[frame["label"] == label]
    if split != ANY:
        frame = frame[frame["split"] == split]
    if frame.empty:
        raise PipelineError(f"There is no {label} clip in the {split} split.")
    rows = random.sample(range(len(frame)), min(count, len(frame)))
    return [_sound(frame.iloc[row]) for row in rows]


def _sound(clip: pd.Series) -> Sound:
    path = Path(clip["path"])
    if not path.exists():
        raise PipelineError(f"{path} does not exist: type `dvc repro -f fetch_data`.")
    about = [clip["split"] or "unused", clip.get("title", ""), clip.get("group", "")]
    return Sound(str(path), f"**{clip['label']}** · " + " · ".join(filter(None, about)))


def linked_from() -> list[str]:
    """The part of DVC's cache that clips are links into, if they are: it may be anywhere.

    DVC links all files of an output alike, and names one of them files/md5/ab/cdef… in its cache.
    """
    clips = (next(folder.iterdir(), None) for folder in RAW.glob("*/"))
    return sorted({str(clip.resolve().parents[1]) for clip in clips if clip and clip.is_symlink()})


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
