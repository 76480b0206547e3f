"""All clips of the corpus, with what is known about each, as the pages list and show them.

Files are read again when they have changed, so reloading the page is enough after `dvc repro`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from genrepro.core.errors import PipelineError
from genrepro.core.paths import CLIPS, PREDICTIONS, SPLIT
from tools import corrections, results
from tools.app.picture import spectrogram

LEAST = 1e-6  # a probability in data/predictions.csv has six digits


class Rows(NamedTuple):
    """A table for the browser, as JSON knows it."""

    columns: list[str]
    values: list[list[Any]]


COLUMNS = ["clip", "label", "split", "group", "title", "seconds", "predicted", "loss"]


def labels() -> list[str]:
    return sorted(_clips(everywhere=False)["label"].unique())


def all_clips(everywhere: bool = False) -> Rows:
    """Each clip, with prediction and loss if it was tested; then those that are left out.

    Args:
        everywhere: whether experiments count, too: after a cross-validation, all clips are tested.
    """
    if everywhere:
        _joined.cache_clear()  # there may be more experiments now
    frame = _clips(everywhere)
    rows = frame[COLUMNS].astype(object).where(frame[COLUMNS].notna(), None).to_numpy().tolist()
    gone = [clip for clip in corrections.read() if clip not in set(frame["clip"])]
    rows += [[clip, "", "left out", "", "", None, "", None] for clip in gone]
    return Rows(COLUMNS, rows)


def mistakes(everywhere: bool = False) -> Rows:
    """The wrongly predicted clips.

    Raises:
        PipelineError: there is none, or no prediction at all.
    """
    results.predictions()  # or say what to type
    label, predicted = COLUMNS.index("label"), COLUMNS.index("predicted")
    rows = all_clips(everywhere).values
    wrong = [row for row in rows if row[predicted] not in ("", row[label])]
    if not wrong:
        raise PipelineError("The model predicted every test clip correctly.")
    return Rows(COLUMNS, wrong)


def _clips(everywhere: bool) -> pd.DataFrame:
    """results.clips(), with `predicted` ("" if not tested), `loss`, and p_<label>s if any."""
    files = (path.stat() if path.exists() else None for path in (CLIPS, SPLIT, PREDICTIONS))
    versions = tuple(file and (file.st_mtime_ns, file.st_size) for file in files)
    return _joined(everywhere, versions)


@functools.lru_cache(maxsize=2)
def _joined(everywhere: bool, _versions: tuple) -> pd.DataFrame:
    clips = results.clips()
    if not everywhere and not PREDICTIONS.exists():
        return clips.assign(predicted="", loss=np.nan)
    tested = _tested_everywhere() if everywhere else results.predictions()
    columns = [column for column in tested if column.startswith("p_")]
    clips = clips.merge(tested[["clip", "predicted", *columns]], on="clip", how="left")
    place = {column[2:]: number for number, column in enumerate(columns)}
    at = clips["label"].map(place).fillna(len(columns)).astype(int)  # the last: no such label
    probability = np.column_stack([clips[columns], np.full(len(clips), np.nan)])
    loss = -np.log(np.maximum(probability[np.arange(len(clips)), at], LEAST))
    return clips.assign(loss=loss.round(4)).fillna({"predicted": ""})


def _tested_everywhere() -> pd.DataFrame:
    """clip, predicted, p_<label>: averages over this run and all experiments on its commit."""
    from tools import runs  # DVC takes a second to import

    frames = [results.predictions(), *map(runs.predictions, runs.experiments())]
    every = pd.concat(frames, ignore_index=True)
    columns = [column for column in every if column.startswith("p_")]
    means = every.fillna(dict.fromkeys(columns, 0.0)).groupby("clip")[columns].mean()
    return means.assign(predicted=means.idxmax(axis=1).str[2:]).reset_index()


@dataclass(frozen=True)
class Clip:
    """All that a page shows of a clip."""

    caption: str
    path: str | None = None
    spectrogram: str | None = None  # HTML
    probabilities: dict[str, float] | None = None  # if it was tested
    predicted: str | None = None
    is_wrong: bool = False
    fault: PipelineError | None = None


def clip(name: str, everywhere: bool = False) -> Clip:
    """Look up a clip by its name in data/clips.csv; one that is gone has only a caption."""
    found = _clips(everywhere).query("clip == @name")
    if found.empty:
        return Clip(f"**{name}** is not in the corpus: it is left out.")
    row = found.iloc[0]
    caption = f"**{name}** is labelled **{row['label']}**"
    probabilities = None
    if row["predicted"]:
        probabilities = results.probabilities(row)
        caption += f", predicted as **{row['predicted']}**"
    about = [row["split"] or "in no split", row["title"], row["group"], f"{row['seconds']:.1f} s"]
    path, picture, fault = Path(row["path"]), None, None
    try:
        picture = spectrogram(path)
    except PipelineError as error:
        fault = error
    return Clip(
        caption=f"{caption}  \n{' · '.join(filter(None, about))}",
        path=None if fault else str(path),
        spectrogram=picture,
        probabilities=probabilities,
        predicted=row["predicted"] or None,
        is_wrong=row["predicted"] not in ("", row["label"]),
        fault=fault,
    )


def clip_label(name: str) -> str | None:
    """The label that a clip has now; None if the clip is left out."""
    found = _clips(everywhere=False).query("clip == @name")
    return None if found.empty else str(found["label"].iloc[0])
