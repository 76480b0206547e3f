"""Read the results of `dvc repro` in the workspace, file by file, so that one may be missing."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from genrepro.core.errors import PipelineError, one_line
from genrepro.core.files import sha256
from genrepro.core.paths import (
    ACCURACY,
    CLIPS,
    CURVES,
    DATA,
    EXPORT,
    LABELS,
    PREDICTIONS,
    RELIABILITY,
    ROBUSTNESS,
    SPLIT,
    TEST,
    VALIDATION,
)

_STAGES = {
    CLIPS: "fetch_data",
    DATA: "fetch_data",
    SPLIT: "prepare",
    VALIDATION: "train",
    CURVES: "train",
}  # the rest: evaluate
_TEXT = ("clip", "path", "label", "group", "title", "part", "split", "predicted", "probabilities")


def clips() -> pd.DataFrame:
    """All clips of the corpus: clip, path, label, seconds, group, title, …, split.

    `split` is train, validation or test, and empty for a clip that is in none of them.

    Raises:
        PipelineError: a file is missing or unreadable (this goes for all functions here); the text
            names the command that produces it.
    """
    split = _table(SPLIT)[["clip", "split"]]
    return _table(CLIPS).merge(split, on="clip", how="left").fillna({"split": ""})


def predictions() -> pd.DataFrame:
    """The test clips: clip, path, label, group, predicted, and p_<label> for each label."""
    return _table(PREDICTIONS)


def probabilities(row: pd.Series) -> dict[str, float]:
    """Label -> probability, from one row of `predictions`."""
    return {key[2:]: float(row[key]) for key in row.index if str(key).startswith("p_")}


def curves() -> pd.DataFrame:
    """What training tried, one row per epoch, or per L2 penalty of a probe.

    by ("epoch" or "penalty"), value, training_loss, validation_loss, accuracy, kept (1 or 0).
    """
    return _table(CURVES)


def accuracy() -> pd.Series:
    """accuracy, low, high (its interval), clips, confidence (the interval's level)."""
    return _table(ACCURACY).iloc[0]


def reliability() -> pd.DataFrame:
    """confidence, accuracy, low, high, clips, probabilities ("as trained", "after temperature")."""
    return _table(RELIABILITY)


def per_label() -> dict[str, dict]:
    """Label -> clips, precision, recall, recall_interval, f1."""
    return _json(LABELS)


def test() -> dict:
    return _json(TEST)


def validation() -> dict:
    return _json(VALIDATION)


def corpus() -> dict:
    return _json(DATA)


def robustness() -> dict:
    """What tools.robustness measured, if it was on the exported model and its test clips."""
    found = _json(ROBUSTNESS)
    if found.get("of") != measured_on():
        raise PipelineError(f"{ROBUSTNESS} is of another run: type `{_command(ROBUSTNESS)}`.")
    return found


def measured_on() -> dict[str, str]:
    """The exported weights and the predictions of the evaluate stage, each with its SHA-256."""
    files = [*sorted(EXPORT.glob("*.safetensors")), PREDICTIONS]
    return {path.as_posix(): sha256(path) for path in files if path.exists()}


def _table(path: Path) -> pd.DataFrame:
    """Read labels and names as text, even if they look like numbers or like "NA"."""
    try:
        return pd.read_csv(
            path,
            dtype=dict.fromkeys(_TEXT, str),
            keep_default_na=False,
            na_values={"seconds": [""]},
        )
    except FileNotFoundError:
        raise _missing(path) from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(path) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _stage(path: Path) -> str:
    return next(
        (stage for output, stage in _STAGES.items() if path.is_relative_to(output)), "evaluate"
    )


def _command(path: Path, option: str = "") -> str:
    """What writes a file; `option` is for DVC, which would not write it again without."""
    return (
        f"dvc repro {option}{_stage(path)}" if path != ROBUSTNESS else "python -m tools.robustness"
    )


def _missing(path: Path) -> PipelineError:
    return PipelineError(f"{path} does not exist yet: type `{_command(path)}`.")


def _unreadable(path: Path, reason: object) -> PipelineError:
    return PipelineError(
        f"{path} is unreadable ({one_line(reason)}): type `{_command(path, '-f ')}`."
    )
