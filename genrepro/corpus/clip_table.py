"""CSV files with one row per clip, as data.facts and data.corrections name them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from genrepro.core.errors import PipelineError

Rows = dict[str, tuple[dict[str, str], int]]  # clip -> its values, and the line for messages


def read(
    path: Path,
    parameter: str,
    columns: Sequence[str],
    needs: str,
    suits: Callable[[set[str]], bool],
) -> Rows:
    """Read a CSV file in UTF-8 whose column `clip` names each clip once.

    Rows without a clip are skipped.

    Args:
        parameter: where the path is from, for messages.
        columns: those to read, without surplus spaces; "" where the file lacks one.
        needs: which columns it needs, in words.
        suits: whether a file with these columns has them.

    Raises:
        PipelineError: it is missing or unreadable, lacks columns, or names a clip twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            found = reader.fieldnames or []
            if "clip" not in found or not suits(set(found)):
                raise PipelineError(
                    f"{parameter}: {path} needs {needs}; "
                    f"it has: {', '.join(found)[:200] or 'none'}."
                )
            return _rows(reader, columns, f"{parameter}: {path}")
    except FileNotFoundError:
        raise PipelineError(
            f"{parameter}: there is no file {path}: fix the path or set it to null."
        ) from None
    except (IsADirectoryError, UnicodeDecodeError, csv.Error) as error:
        raise PipelineError(
            f"{parameter}: {path} is not readable as CSV in UTF-8: {error}."
        ) from None


def _rows(reader: csv.DictReader, columns: Sequence[str], origin: str) -> Rows:
    rows: Rows = {}
    for row in reader:
        clip = (row["clip"] or "").strip()
        if not clip:
            continue  # spreadsheets leave empty rows at the end
        if clip in rows:
            raise PipelineError(f"{origin} line {reader.line_num} lists the clip {clip!r} again.")
        values = {column: " ".join((row.get(column) or "").split()) for column in columns}
        rows[clip] = values, reader.line_num
    return rows
