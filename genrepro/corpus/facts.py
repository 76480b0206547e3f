"""What is known about a clip besides its sound: group, title and published split (`part`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genrepro.core.errors import PipelineError
from genrepro.corpus import clip_table

COLUMNS = ("group", "title", "part")
Facts = dict[str, str]  # column -> value; what is unknown is absent


@dataclass(frozen=True)
class Known:
    """A facts table and a name pattern; the table wins where both give a value."""

    table: dict[str, Facts]
    pattern: re.Pattern[str] | None
    origin: str  # the table's path, for messages

    @classmethod
    def of(cls, facts: Path | None, name_pattern: str | None) -> Known:
        """Read the table and compile the pattern; either may be None."""
        table = read_table(facts) if facts else {}
        return cls(table, compile_pattern(name_pattern) if name_pattern else None, str(facts))

    def about(self, names: Sequence[str], file_name: str, source: str) -> Facts:
        """The facts of a clip from `source` that the table may list under any of `names`."""
        found: Facts = {}
        if self.pattern and (match := searched(self.pattern, file_name, source)):
            known = match.groupdict()
            found |= {column: known[column] for column in COLUMNS if known.get(column)}
        row = next((self.table[name] for name in names if name in self.table), {})
        return found | row

    def check_used(self, clips: dict[str, Facts], file_names: list[str]) -> None:
        """Refuse a table or a pattern that fits none of the clips: it belongs to another corpus.

        Raises:
            PipelineError: a table or a pattern was given, and nothing is known about any clip.
        """
        if any(clips.values()) or not file_names:
            return
        if self.pattern and "label" in self.pattern.groupindex:
            return  # it gave the labels
        if self.pattern:
            raise PipelineError(
                f"data.name_pattern {self.pattern.pattern!r} matches none of the "
                f"{len(file_names)} file names, e.g. {file_names[0]!r}: fix it or set it to null."
            )
        if self.table:
            raise PipelineError(
                f"{self.origin} lists none of the {len(clips)} clips, e.g. {next(iter(clips))!r} "
                f"(it lists e.g. {next(iter(self.table))!r}): give this corpus's own facts."
            )

    def coverage(self, clips: Sequence[Sequence[str]]) -> list[str]:
        """A warning if the table lists only some of the clips, each given by its names."""
        listed = sum(any(name in self.table for name in names) for names in clips)
        if not self.table or listed == len(clips):
            return []
        return [f"{self.origin} lists {listed} of the {len(clips)} clips"]


def searched(pattern: re.Pattern[str], file_name: str, source: str) -> re.Match[str] | None:
    """Search a file's name, or its path below the corpus if the pattern names folders by a "/"."""
    return pattern.search(source if "/" in pattern.pattern else file_name)


def compile_pattern(name_pattern: str) -> re.Pattern[str]:
    """Compile data.name_pattern, which captures label, group, title or part from files' names.

    Raises:
        PipelineError: it is not a regular expression, or captures nothing or something else.
    """
    try:
        pattern = re.compile(name_pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise PipelineError(
            f"data.name_pattern {name_pattern!r} is not a regular expression: {error}."
        ) from None
    names = set(pattern.groupindex)
    captured = ("label", *COLUMNS)
    if not names or names - set(captured):
        raise PipelineError(
            f"data.name_pattern {name_pattern!r} must capture one or more of "
            f"{', '.join(f'(?P<{name}>…)' for name in captured)} and nothing else."
        )
    return pattern


def read_table(path: Path) -> dict[str, Facts]:
    """Read a CSV with a column `clip` and any of group, title, part; other columns are ignored.

    Raises:
        PipelineError: it is missing or unreadable, lacks the columns, or names a clip twice.
    """
    needs = f"a column clip and one of {', '.join(COLUMNS)}"
    rows = clip_table.read(
        path, "data.facts", COLUMNS, needs, lambda found: bool(found & set(COLUMNS))
    )
    return {
        clip: {column: value for column, value in values.items() if value}
        for clip, (values, _) in rows.items()
    }
