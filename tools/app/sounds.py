"""What the pages show: clips and what is known about them, predictions, the run.

Files are read again for every request, so reloading the page is enough after another `dvc repro`.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from genrepro import audio
from genrepro.core.errors import PipelineError
from genrepro.core.paths import CLIPS, EXPORT, PREDICTIONS, RAW, SPLIT
from tools import corrections, figures, results

ANY = "any"
SHOWN_SECONDS = 60.0  # of a spectrogram: a longer one would show no detail
LEAST = 1e-6  # a probability in data/predictions.csv has six digits


@dataclass(frozen=True)
class Sound:
    """A clip for a player: its file and its caption."""

    path: str
    caption: str


def labels() -> list[str]:
    return sorted(_clips(everywhere=False)["label"].unique())


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


def check_export() -> None:
    """Report a missing model without the seconds that loading one takes.

    Raises:
        PipelineError: as `classify` would.
    """
    if not (EXPORT / "config.json").exists():
        raise PipelineError(f"{EXPORT}/ contains no model: type `dvc repro`.")


def warm_up() -> None:
    """Load the model; if it is missing, that is reported when it is needed."""
    with contextlib.suppress(PipelineError):
        _classifier()


def _classifier():
    """The exported model, loaded again after a new export."""
    weights = EXPORT / "model.safetensors"
    return _loaded(weights.stat().st_mtime_ns if weights.exists() else 0)


@functools.lru_cache(maxsize=1)
def _loaded(_version: int):
    from tools.classifier import Classifier

    return Classifier(EXPORT)


@dataclass(frozen=True)
class Result:
    """A prediction for the page; `over_time` is None if there is only one segment."""

    probabilities: dict[str, float]
    note: str
    over_time: Figure | None


def classify(path: str) -> Result:
    """Classify a sound file.

    Raises:
        PipelineError: there is no model yet, or the file cannot be classified.
    """
    classifier = _classifier()
    try:
        found = classifier.file(Path(path))
    except audio.AudioFault as fault:
        raise PipelineError(f"This sound cannot be classified: {fault}.") from None
    segments = len(found.spans)
    note = f"{found.seconds:.1f} s, in {segments} segment{'s' * (segments > 1)}."
    if found.cut_short:
        note += f" The file is damaged: {found.cut_short}."
    if found.remark:
        note += f" Note: {found.remark}."
    picture = None
    if segments > 1:
        picture = figures.over_time(classifier.labels, found.spans, found.over_time)
    return Result(found.probabilities, note, picture)


class Rows(NamedTuple):
    """A table for the browser, as JSON knows it."""

    columns: list[str]
    values: list[list[Any]]


COLUMNS = ["clip", "label", "split", "group", "title", "seconds", "predicted", "loss"]


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


def spectrogram(path: Path) -> str:
    """A picture whose text is HTML, so that it is readable at any width and in any theme."""
    again = "type `dvc repro -f fetch_data`."
    if not path.exists():
        raise PipelineError(f"{path} does not exist: {again}")
    try:
        samples, rate = audio.read(path, SHOWN_SECONDS)
    except audio.AudioFault as fault:
        raise PipelineError(f"{path} has been damaged ({fault}): {again}") from None
    file = io.BytesIO()
    marks = figures.spectrogram(samples, rate, file)
    image = base64.b64encode(file.getvalue()).decode()
    seconds = len(samples) / rate
    hz = "".join(
        f'<span style="bottom:{100 * at:.1f}%">{name}</span>' for name, at in marks.items()
    )
    times = "".join(f"<span>{seconds * step / 4:.1f} s</span>" for step in range(5))
    return (
        f'<figure class="spectrogram"><div class="picture"><img alt="Spectrogram of {seconds:.1f} '
        f'seconds, 60 Hz to {rate / 2000:g} kHz" src="data:image/jpeg;base64,{image}">{hz}</div>'
        f"<figcaption>{times}</figcaption></figure>"
    )


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
