"""data.corrections: right labels for clips that their corpus labels wrongly, or leaves out."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from genrepro.core.errors import PipelineError
from genrepro.corpus import clip_table
from genrepro.corpus.shelf import Item, Shelf, as_label, fault_of

COLUMNS = ("clip", "label", "note")


class Correction(NamedTuple):
    """The right label of a clip, "" to leave the clip out, and a note for people."""

    label: str
    note: str = ""


class Corrections:
    """A table of corrections, by clips' names in data/clips.csv, and what became of them."""

    def __init__(self, table: dict[str, Correction], origin: str) -> None:
        """Take a table as `read_table` returns it; `origin` is its path, for messages."""
        self._table, self._origin = table, origin
        self._relabelled: Counter[str] = Counter()  # new label -> clips that got it
        self._left_out = 0

    def apply(self, item: Item, shelf: Shelf) -> Item | None:
        """Put a clip under its right label; None if it is left out, which removes its copy."""
        found = self._table.get(item.clip)
        if found is None or found.label == item.label:
            return item
        if found.label:
            self._relabelled[found.label] += 1
            return shelf.move(item, found.label)
        self._left_out += 1
        shelf.remove(item)
        return None

    def outcome(self, items: Iterable[Item]) -> tuple[dict[str, Any], list[str]]:
        """Counts for metrics/data.json, and warnings.

        Args:
            items: all of the corpus, as it was before any correction.

        Raises:
            PipelineError: the table lists none of them: it belongs to another corpus.
        """
        items = list(items)
        clips = {item.clip for item in items}
        labels = {item.label for item in items}
        unknown = [clip for clip in self._table if clip not in clips]
        if items and unknown and len(unknown) == len(self._table):
            raise PipelineError(
                f"data.corrections: {self._origin} lists none of the {len(items)} clips, e.g. "
                f"{items[0].clip!r} (it lists e.g. {unknown[0]!r}): it belongs to another corpus; "
                "give this one's, or null."
            )
        warnings = [
            f"{self._origin} gives {_clips(count)} the label {label!r}, which the corpus does not "
            f"have{_hint(label, labels)}"
            for label, count in sorted(self._relabelled.items())
            if label not in labels
        ]
        if unknown:
            absent = _clips(len(unknown))
            warnings.append(f"{self._origin} lists {absent} not in the corpus, e.g. {unknown[0]!r}")
        counts = {"relabelled": self._relabelled.total(), "left_out": self._left_out}
        return counts | {"not_in_the_corpus": unknown}, warnings


def _clips(count: int) -> str:
    return f"{count} clip" + "s" * (count != 1)


def _hint(label: str, labels: Iterable[str]) -> str:
    near = difflib.get_close_matches(label, labels, n=1)
    return f" (is it {near[0]!r}?)" if near else ""


def read_table(path: Path) -> dict[str, Correction]:
    """Read a CSV with the columns clip, label and, if wanted, note.

    Raises:
        PipelineError: it is missing or unreadable, has other columns, names a clip twice, or has
            a label that cannot be a folder's name.
    """
    needs = f"the columns {', '.join(COLUMNS)}"
    rows = clip_table.read(
        path,
        "data.corrections",
        COLUMNS[1:],
        needs,
        lambda found: {"label"} <= found <= set(COLUMNS),
    )
    return {
        clip: Correction(
            _label(row["label"], f"{path} line {line}: the label of {clip!r}"), row["note"]
        )
        for clip, (row, line) in rows.items()
    }


def _label(label: str, whose: str) -> str:
    label = as_label(label)
    if label and (fault := fault_of(label)):
        raise PipelineError(f"data.corrections: {whose} cannot be used: {fault}.")
    return label
