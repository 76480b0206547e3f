"""Which label, and which split, the folders around a clip stand for.

Two layouts are read: `<label>/<clip>`, and 🤗 AudioFolder's `<split>/<label>/<clip>` with datasets'
names for splits. One or two folders may wrap everything, as they do in unpacked archives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import NamedTuple

MOST_WRAPPERS = 2
# Source: datasets/data_files.py, SPLIT_KEYWORDS
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_CANONICAL = {name: split for split, names in SPLITS.items() for name in names}


class Layout(NamedTuple):
    """How many folders wrap a corpus, and whether the next ones are splits."""

    wrappers: int = 0
    splits: bool = False

    def place(self, source: PurePath) -> tuple[str, str] | str:
        """A file's label and its split ("" if it has none), or why it has no label."""
        *folders, _ = source.parts[self.wrappers :]
        split = folders.pop(0) if self.splits and folders else ""
        if len(folders) == 1:
            return folders[0], canonical(split)
        return "in a folder inside its label's folder" if folders else "not in a label's folder"


def canonical(part: str) -> str:
    """train, validation or test for any of their usual names; other parts stay as they are."""
    return _CANONICAL.get(part.casefold(), part)


def recognise(sources: Iterable[PurePath]) -> Layout:
    """The layout of a corpus, from its sound files' paths below its folder."""
    folders = [source.parts[:-1] for source in sources]
    wrappers = 0
    while wrappers < MOST_WRAPPERS and _is_wrapper(folders):
        folders = [each[1:] for each in folders]
        wrappers += 1
    names = {each[0].casefold() for each in folders if each}
    deep = sum(len(each) == 2 for each in folders)
    splits = len({canonical(name) for name in names}) > 1 and names <= set(_CANONICAL)
    return Layout(wrappers, splits and 2 * deep > len(folders))


def _is_wrapper(folders: Sequence[tuple[str, ...]]) -> bool:
    """Whether one folder holds everything, and folders of clips rather than clips."""
    return len({each[:1] for each in folders}) == 1 and all(len(each) > 1 for each in folders)
