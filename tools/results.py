"""What `dvc repro` left behind, for people: each file by itself, so that one may be missing."""

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
    PREDICTIONS,
    RELIABILITY,
    SPLIT,
    TEST,
    VALIDATION,
)

_MADE_BY = {
    CLIPS: "fetch_data",
    DATA: "fetch_data",
    SPLIT: "prepare",
    VALIDATION: "train",
    CURVES: "train",
}  # and the rest by evaluate
_TEXT = ("clip", "path", "label", "group", "title", "part", "split", "predicted", "probabilities")


def clips() -> pd.DataFrame:
    """Every clip of the corpus: clip, path, label, seconds, group, title, …, split.

    `split` is train, validation or test, and empty for a clip that was left out.

    Raises:
        PipelineError: as all functions here: a file is missing or cannot be read; the text names
            the command that makes it.
    """
    split = _table(SPLIT)[["clip", "split"]]
    return _table(CLIPS).merge(split, on="clip", how="left").fillna({"split": ""})


def predictions() -> pd.DataFrame:
    """The test clips: clip, path, label, group, predicted, and p_<label> for each label."""
    return _table(PREDICTIONS)


def probabilities(row: pd.Series) -> dict[str, float]:
    """Label -> probability, of one row of `predictions`."""
    return {key[2:]: float(row[key]) for key in row.index if str(key).startswith("p_")}


def curves() -> pd.DataFrame:
    """What training logged: a row an epoch: epoch, train_loss, validation_loss, accuracy."""
    columns = {}
    for part, name, column in (
        ("train", "loss", "train_loss"),
        ("validation", "loss", "validation_loss"),
        ("validation", "accuracy", "accuracy"),
    ):
        path = CURVES / part / f"{name}.tsv"
        table = _table(path, "\t")
        if not {"step", name} <= set(table):
            raise _unreadable(path, "a column is missing")
        columns[column] = table.set_index("step")[name]
    return pd.DataFrame(columns).rename_axis("epoch").reset_index()


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
    """Labels and names are text even where they look like numbers or like "NA"."""
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
        (stage for made, stage in _MADE_BY.items() if path.is_relative_to(made)), "evaluate"
    )


def _missing(path: Path) -> PipelineError:
    return PipelineError(f"{path} is not there yet. `dvc repro {_stage(path)}` makes it.")


def _unreadable(path: Path, reason: object) -> PipelineError:
    return PipelineError(
        f"{path} cannot be read ({one_line(reason)}). `dvc repro -f {_stage(path)}` makes it anew."
    )
