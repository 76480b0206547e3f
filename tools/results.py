"""Read the results of `dvc repro` in the workspace, file by file, so that one may be missing."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from genrepro.core.errors import PipelineError, one_line
from genrepro.core.paths import (
    CLIPS,
    CURVES,
    DATA,
    LABELS,
    PENALTIES,
    PREDICTIONS,
    RELIABILITY,
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
    PENALTIES: "train",
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
    """The learning curves, one row per epoch: epoch, train_loss, validation_loss, accuracy."""
    columns = {}
    for split, name, column in (
        ("train", "loss", "train_loss"),
        ("validation", "loss", "validation_loss"),
        ("validation", "accuracy", "accuracy"),
    ):
        path = CURVES / split / f"{name}.tsv"
        table = _table(path, "\t")
        if not {"step", name} <= set(table):
            raise _unreadable(path, "a column is missing")
        columns[column] = table.set_index("step")[name]
    return pd.DataFrame(columns).rename_axis("epoch").reset_index()


def penalties() -> pd.DataFrame:
    """What a probe tried: penalty, train_loss, validation_loss, accuracy."""
    return _table(PENALTIES)


def reliability() -> pd.DataFrame:
    """confidence, accuracy, clips, probabilities ("as trained" or "after temperature")."""
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


def _table(path: Path, separator: str = ",") -> pd.DataFrame:
    """Read labels and names as text, even if they look like numbers or like "NA"."""
    try:
        return pd.read_csv(
            path,
            sep=separator,
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


def _missing(path: Path) -> PipelineError:
    return PipelineError(f"{path} does not exist yet: type `dvc repro {_stage(path)}`.")


def _unreadable(path: Path, reason: object) -> PipelineError:
    return PipelineError(
        f"{path} is unreadable ({one_line(reason)}): type `dvc repro -f {_stage(path)}`."
    )
