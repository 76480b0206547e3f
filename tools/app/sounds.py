"""What the page's buttons do: choose clips, classify, look up mistakes, draw the run.

Everything is read anew when asked for: after another `dvc repro`, reloading the page is enough.
"""

from __future__ import annotations

import contextlib
import functools
import random
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from genrepro import audio
from genrepro.core.errors import PipelineError
from genrepro.core.paths import EXPORT
from tools import figures, results

ANY = "any"
PARTS = ("train", "validation", "test")
SHOWN_SECONDS = 60.0  # of a waveform: a longer clip's picture would show nothing


@dataclass(frozen=True)
class Sound:
    """A clip for a player: its file and the words over it."""

    path: str
    caption: str


def labels() -> list[str]:
    return sorted(results.clips()["label"].unique())


def draw_clips(label: str, part: str, count: int) -> list[Sound]:
    """Choose clips at random, fewer than `count` where there are no more.

    Raises:
        PipelineError: no such clip, or nothing to choose from yet.
    """
    frame = results.clips()
    if label != ANY:
        frame = frame[frame["label"] == label]
    if part != ANY:
        frame = frame[frame["split"] == part]
    if frame.empty:
        raise PipelineError(f"No clip of label {label} is in part {part}.")
    rows = random.sample(range(len(frame)), min(count, len(frame)))
    return [_sound(frame.iloc[row]) for row in rows]


def _sound(clip: pd.Series) -> Sound:
    path = Path(clip["path"])
    if not path.exists():
        raise PipelineError(f"{path} is not there. `dvc repro fetch_data` makes it.")
    about = [clip["split"] or "left out", clip.get("title", ""), clip.get("group", "")]
    return Sound(str(path), f"**{clip['label']}** · " + " · ".join(word for word in about if word))


def check_export() -> None:
    """Say that there is no model yet, without the seconds that loading one takes.

    Raises:
        PipelineError: as `classify` would.
    """
    if not (EXPORT / "config.json").exists():
        raise PipelineError(f"{EXPORT}/ holds no model: `dvc repro` makes it.")


def warm_up() -> None:
    """Load the model and hear a second of noise; what is missing is said when it is asked for."""
    with contextlib.suppress(PipelineError):
        _classifier()


def _classifier():
    """The exported model, loaded again when an export has replaced it."""
    weights = EXPORT / "model.safetensors"
    return _loaded(weights.stat().st_mtime_ns if weights.exists() else 0)


@functools.lru_cache(maxsize=1)
def _loaded(_version: int):
    from tools.classifier import Classifier

    return Classifier(EXPORT)


@dataclass(frozen=True)
class Heard:
    """A verdict for the page; `over_time` is None where there is one segment only."""

    probabilities: dict[str, float]
    words: str
    over_time: Figure | None


def classify(path: str) -> Heard:
    """Classify a sound file.

    Raises:
        PipelineError: there is no model yet, or the file is no usable sound.
    """
    classifier = _classifier()
    try:
        verdict = classifier.file(Path(path))
    except audio.AudioFault as fault:
        raise PipelineError(
            f"This sound cannot be classified: {fault}. "
            f"{', '.join(audio.EXTENSIONS)} files can be read."
        ) from None
    segments = len(verdict.spans)
    words = f"{verdict.seconds:.1f} s heard in {segments} segment{'s' * (segments > 1)}."
    if verdict.cut_short:
        words += f" The file is damaged: {verdict.cut_short}."
    picture = None
    if segments > 1:
        picture = figures.over_time(classifier.labels, verdict.spans, verdict.over_time)
    return Heard(verdict.probabilities, words, picture)


@dataclass(frozen=True)
class Mistake:
    """A test clip that the model got wrong."""

    clip: str
    label: str
    predicted: str
    sound: Sound
    probabilities: dict[str, float]

    @property
    def probability(self) -> float:
        return self.probabilities[self.predicted]

    def picture(self) -> Figure:
        path = Path(self.sound.path)
        try:
            samples, rate = audio.read(path, SHOWN_SECONDS)
        except audio.AudioFault as fault:
            raise PipelineError(
                f"{path} is not what it was: {fault}. `dvc repro -f fetch_data` makes it anew."
            ) from None
        return figures.sound(samples, rate)


def mistakes() -> list[Mistake]:
    """All test clips that were got wrong, the surest mistake first."""
    frame = results.predictions()
    wrong = frame[frame["label"] != frame["predicted"]]
    found = [_mistake(row) for _, row in wrong.iterrows()]
    return sorted(found, key=lambda mistake: (-mistake.probability, mistake.clip))


def _mistake(row: pd.Series) -> Mistake:
    caption = f"**{row['clip']}** is **{row['label']}**, heard as **{row['predicted']}**"
    caption += f" · {row['group']}" if row["group"] else ""
    return Mistake(
        row["clip"],
        row["label"],
        row["predicted"],
        Sound(row["path"], caption),
        results.probabilities(row),
    )


def headline() -> str:
    """What was trained on and how good it is, in a line of Markdown."""
    test, corpus = results.test(), results.corpus()
    interval = test["accuracy_interval"]
    name = corpus["corpus"]["title"] or corpus["corpus"]["name"]
    return (
        f"**{name}**: {corpus['clips']:,} clips, "
        f"{len(corpus['labels'])} labels. Test accuracy **{test['accuracy']:.3f}** "
        f"({interval['low']:.3f} to {interval['high']:.3f}) on {test['clips']:,} clips."
    )


def merit() -> str:
    """A table in Markdown of what metrics/test.json and metrics/validation.json hold."""
    test, validation = results.test(), results.validation()
    by = "epoch" if "epoch" in validation else "penalty"
    rows = [
        _row("**test accuracy**", test, "accuracy"),
        _row("test macro F1", test, "macro_f1"),
        _row("test loss", test, "loss"),
        _row("test calibration error", test, "calibration_error"),
        f"| validation accuracy, {by} {validation[by]:g} | {validation['accuracy']:.3f} | |",
    ]
    if test["units"] < test["clips"]:
        by_group = _interval(test["accuracy_by_group_interval"])
        rows.insert(1, f"| the same, resampling {test['units']} groups | | {by_group} |")
    return "\n".join(["| | | interval |", "|:--|--:|:--|", *rows])


def _row(name: str, test: dict, key: str) -> str:
    return f"| {name} | {test[key]:.3f} | {_interval(test[f'{key}_interval'])} |"


def _interval(interval: dict) -> str:
    if interval["low"] is None:
        return ""
    return f"{interval['low']:.3f} to {interval['high']:.3f}"
