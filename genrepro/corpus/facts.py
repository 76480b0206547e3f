"""What is known of a clip besides its sound: group, title and published part."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from genrepro.core.errors import PipelineError

COLUMNS = ("group", "title", "part")
Facts = dict[str, str]  # from COLUMNS to a value; what is unknown is absent


@dataclass(frozen=True)
class Known:
    """A facts table and a name pattern; the table goes first where both know something."""

    table: dict[str, Facts]
    pattern: re.Pattern[str] | None
    origin: str  # the table's path, for messages

    @classmethod
    def of(cls, facts: Path | None, name_pattern: str | None) -> Known:
        """Read the table and compile the pattern; either may be None."""
        table = read_table(facts) if facts else {}
        return cls(table, compile_pattern(name_pattern) if name_pattern else None, str(facts))

    def about(self, names: Iterable[str], file_name: str) -> Facts:
        """The facts of a clip that goes by any of `names` and came as `file_name`."""
        found: Facts = {}
        if self.pattern and (match := self.pattern.search(file_name)):
            found |= {key: value for key, value in match.groupdict().items() if value}
        row = next((self.table[name] for name in names if name in self.table), {})
        return found | row

    def check_used(self, clips: dict[str, Facts], file_names: list[str]) -> None:
        """Refuse a table or a pattern that fits none of the clips: it is for another corpus.

        Raises:
            PipelineError: nothing is known of any clip though something was given.
        """
        if any(clips.values()) or not file_names:
            return
        if self.pattern:
            raise PipelineError(
                f"data.name_pattern {self.pattern.pattern!r} matches none of the "
                f"{len(file_names)} file names, e.g. {file_names[0]!r}: mend it or set it to null."
            )
        if self.table:
            raise PipelineError(
                f"{self.origin} knows none of the {len(clips)} clips, e.g. {next(iter(clips))!r} "
                f"(it knows e.g. {next(iter(self.table))!r}): give the facts of this corpus."
            )


def compile_pattern(name_pattern: str) -> re.Pattern[str]:
    """Compile data.name_pattern: it is searched in file names and names group, title or part.

    Raises:
        PipelineError: it is no regular expression, or names nothing or something else.
    """
    try:
        pattern = re.compile(name_pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise PipelineError(
            f"data.name_pattern {name_pattern!r} is not a regular expression: {error}."
        ) from None
    names = set(pattern.groupindex)
    if not names or names - set(COLUMNS):
        raise PipelineError(
            f"data.name_pattern {name_pattern!r} must name one or more of "
            f"{', '.join(f'(?P<{column}>…)' for column in COLUMNS)} and nothing else."
        )
    return pattern


def read_table(path: Path) -> dict[str, Facts]:
    """Read a CSV with a column `clip` and any of group, title, part; other columns are left alone.

    Raises:
        PipelineError: it is missing or unreadable, lacks the columns, or names a clip twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            if "clip" not in columns or not set(columns) & set(COLUMNS):
                raise PipelineError(
                    f"{path} needs a column clip and one of {', '.join(COLUMNS)}; "
                    f"it has: {', '.join(columns)[:200] or 'none'}."
                )
            return _rows(path, reader)
    except FileNotFoundError:
        raise PipelineError(
            f"data.facts: there is no file {path}: mend the path or set it to null."
        ) from None
    except (IsADirectoryError, UnicodeDecodeError, csv.Error) as error:
        raise PipelineError(f"{path} is not readable as CSV in UTF-8: {error}.") from None


def _rows(path: Path, reader: csv.DictReader) -> dict[str, Facts]:
    table: dict[str, Facts] = {}
    for row in reader:
        clip = (row["clip"] or "").strip()
        if not clip:
            continue  # spreadsheets leave such rows at the end
        if clip in table:
            raise PipelineError(f"{path} line {reader.line_num} names the clip {clip!r} again.")
        values = {column: " ".join((row.get(column) or "").split()) for column in COLUMNS}
        table[clip] = {column: value for column, value in values.items() if value}
    return table
