"""Read data/clips.csv for splitting, and write data/split.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from genrepro.core.errors import PipelineError

SPLITS = ("train", "validation", "test")
Unit = tuple["Clip", ...]  # clips that must all be in the same split


class Clip(NamedTuple):
    """What splitting needs of a row of data/clips.csv; unknown facts are empty."""

    clip: str
    label: str
    group: str = ""
    title: str = ""
    part: str = ""
    sha256: str = ""


def read_clips(path: Path) -> list[Clip]:
    """Read data/clips.csv, sorted by clip.

    Raises:
        PipelineError: the file or a column is missing.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        clips = [Clip(*(row[column] for column in Clip._fields)) for row in rows]
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing: type `dvc repro fetch_data`.") from None
    except KeyError as error:
        raise PipelineError(f"{path} has no column {error}: type `dvc repro fetch_data`.") from None
    return sorted(clips)


def to_csv(clips: Iterable[Clip], splits: Mapping[str, str]) -> str:
    """data/split.csv: clip, label, split; sorted by clip."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("clip", "label", "split"))
    writer.writerows((c.clip, c.label, splits[c.clip]) for c in sorted(clips) if c.clip in splits)
    return text.getvalue()
