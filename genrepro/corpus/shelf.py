"""Where a corpus's files are put, each under its label, with names that no two clips share."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from unicodedata import category

from genrepro.corpus.facts import Facts

MAX_NAME_BYTES = 200  # file systems allow 255, and names get a prefix here and there


@dataclass(frozen=True)
class Item:
    """A file on the shelf that may be a clip; nobody has listened yet."""

    path: Path
    label: str
    stem: str
    source: str  # how a person finds it where it came from
    facts: Facts = field(default_factory=dict)
    clip: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """What a table of facts may call it."""
        return (self.clip, f"{self.label}/{self.stem}", self.stem)


class Shelf:
    """Takes files in a fixed order; what cannot be taken is written down with its reason."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.items: list[Item] = []
        self.skipped: dict[str, str] = {}
        self._taken: defaultdict[str, dict[str, int]] = defaultdict(dict)
        root.mkdir(parents=True)

    def refuse(self, source: str, reason: str) -> None:
        self.skipped[printable(source)] = reason

    def place(
        self, label: str, stem: str, extension: str, source: str, facts: Facts | None = None
    ) -> Path | None:
        """Give a file its place, <root>/<label>/<stem><extension>; None if its name is no good.

        A stem that the label already has, in any case of letters, gets "-2", "-3", …
        """
        for name in (label, stem):
            if reason := _fault_of(name):
                self.refuse(source, reason)
                return None
        stem = _numbered(stem, self._taken[label])
        path = self.root / label / (stem + extension)
        path.parent.mkdir(exist_ok=True)
        self.items.append(Item(path, label, stem, source, facts or {}))
        return path

    def drop(self, item: Item, reason: str) -> None:
        """Take a file off the shelf again."""
        item.path.unlink()
        self.refuse(item.source, reason)
        if not any(item.path.parent.iterdir()):
            item.path.parent.rmdir()

    def named(self) -> list[Item]:
        """The items with a clip's name each, unique in the corpus, sorted by it.

        A clip is called as its file, or <label>.<stem> where several labels have the stem.
        """
        count = Counter(item.stem.casefold() for item in self.items)
        own = {stem: 1 for stem, times in count.items() if times == 1}
        named = []
        # A new name is longer than the old one: the longest first, so that no file is written over.
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
    """A file's name for UTF-8 reports, also where its bytes are not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _numbered(name: str, taken: dict[str, int]) -> str:
    """`name`, or the first of name-2, name-3, … that is not taken; it then is.

    `taken` holds names without regard to case, each with the last number given to it.
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


def _fault_of(name: str) -> str | None:
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
