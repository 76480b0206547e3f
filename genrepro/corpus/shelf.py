"""Puts a corpus's files in place, each under its label, and gives each clip a unique name."""

from __future__ import annotations

import math
import shutil
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from unicodedata import category

from genrepro.corpus.facts import Facts

MAX_NAME_BYTES = 200  # file systems allow 255, and names get a prefix here and there


@dataclass(frozen=True)
class Item:
    """A file on the shelf that may be a clip; it has not been decoded yet."""

    path: Path
    label: str
    stem: str
    source: str  # where it came from, for people
    facts: Facts = field(default_factory=dict)
    clip: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which a facts table may refer to it."""
        return (self.clip, f"{self.label}/{self.stem}", self.stem)


class Shelf:
    """Takes files in a fixed order; what cannot be taken is recorded with its reason.

    With `links`, it holds links to files instead of copies: enough to look at a corpus.
    """

    def __init__(self, root: Path, links: bool = False) -> None:
        self.root = root
        self._links = links
        self.items: list[Item] = []
        self.skipped: dict[str, str] = {}
        self.lost: Counter[str] = Counter()  # label -> its skipped files
        self.others: Counter[str] = Counter()  # ending -> files that are not audio
        self.warnings: list[str] = []
        self._taken: defaultdict[str, dict[str, int]] = defaultdict(dict)
        root.mkdir(parents=True)

    def refuse(self, source: str, reason: str, label: str = "") -> None:
        self.skipped[printable(source)] = reason
        if label:
            self.lost[printable(label)] += 1

    def ignore(self, name: str) -> None:
        """Count a file that is not audio."""
        self.others[printable(PurePath(name).suffix.lower()) or "no ending"] += 1

    def place(
        self, label: str, stem: str, extension: str, source: str, facts: Facts | None = None
    ) -> Path | None:
        """The path for a file, <root>/<label>/<stem><extension>; None if its name cannot be used.

        A stem that the label already has, in any case of letters, gets "-2", "-3", …
        """
        for name in (label, stem):
            if reason := fault_of(name):
                self.refuse(source, reason, label)
                return None
        stem = _numbered(stem, self._taken[label])
        path = self.root / label / (stem + extension)
        path.parent.mkdir(exist_ok=True)
        self.items.append(Item(path, label, stem, source, facts or {}))
        return path

    def copy(self, file: Path, target: Path) -> None:
        """Put a file at its place, as `place` gave it."""
        if self._links:
            target.symlink_to(file.resolve())
        else:
            shutil.copyfile(file, target)

    def drop(self, item: Item, reason: str) -> None:
        """Take a file off the shelf again, because it cannot be a clip."""
        self.remove(item)
        self.refuse(item.source, reason, item.label)

    def remove(self, item: Item) -> None:
        """Remove a file, and its label's folder if it was the last one there."""
        item.path.unlink()
        self._remove_empty(item.path.parent)

    def move(self, item: Item, label: str) -> Item:
        """Put a clip under another label; it keeps its name, which is unique in the corpus."""
        path = self.root / label / item.path.name
        path.parent.mkdir(exist_ok=True)
        item.path.replace(path)
        self._remove_empty(item.path.parent)
        return replace(item, path=path, label=label)

    @staticmethod
    def _remove_empty(folder: Path) -> None:
        if not any(folder.iterdir()):
            folder.rmdir()

    def named(self) -> list[Item]:
        """The items sorted by clip: each with a clip name that is unique in the corpus.

        A clip is named after its file, or <label>.<stem> where several labels have that stem.
        """
        count = Counter(item.stem.casefold() for item in self.items)
        own = {stem: 1 for stem, times in count.items() if times == 1}
        named = []
        # A new name is longer than the old one: the longest first, so that no file is overwritten.
        for item in sorted(self.items, key=lambda item: (-len(item.stem), item.label, item.stem)):
            clip = item.stem
            if count[clip.casefold()] > 1:
                clip = _numbered(f"{item.label}.{item.stem}", own)
            path = item.path.with_name(clip + item.path.suffix)
            item.path.replace(path)
            named.append(replace(item, path=path, clip=clip))
        self.items = sorted(named, key=lambda item: item.clip)
        return self.items


def printable(name: str) -> str:
    """A file's name as valid UTF-8, also where its bytes are not."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def text(value: object) -> str:
    """A table's value in one line: 3.0 as 3, and what is missing as ""."""
    if isinstance(value, float):
        value = None if math.isnan(value) else int(value) if value.is_integer() else value
    return " ".join(str("" if value is None else value).split())


def as_label(value: str) -> str:
    """A label as a folder's name."""
    return printable(value).replace("/", "-").replace("\\", "-")


def _numbered(name: str, taken: dict[str, int]) -> str:
    """`name`, or the first of name-2, name-3, … that is not taken; marks it as taken.

    `taken` maps case-folded names to the last number given to each.
    """
    folded = name.casefold()
    number = taken.get(folded, 0) + 1
    while number > 1 and f"{folded}-{number}" in taken:
        number += 1
    taken[folded] = number
    if number == 1:
        return name
    taken[f"{folded}-{number}"] = 1
    return f"{name}-{number}"


def fault_of(name: str) -> str | None:
    """Why a clip or a label cannot have this name; None if it can."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "its name is not valid UTF-8"
    if not name.strip() or name in (".", ".."):
        return "it has no name or no label"
    if size > MAX_NAME_BYTES:
        return f"its name is longer than {MAX_NAME_BYTES} bytes"
    if any(category(letter) in ("Cc", "Zl", "Zp") for letter in name) or set(name) & set("/\\"):
        return "its name holds a control character or a slash"
    return None
