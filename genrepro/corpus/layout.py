"""Infer a clip's label and split from its folders.

Two layouts are read: `<label>/<clip>`, and 🤗 AudioFolder's `<split>/<label>/<clip>` with datasets'
names for splits. One or two folders may wrap everything, as they do in unpacked archives.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import NamedTuple

MOST_WRAPPERS = 2
# Source: datasets/data_files.py, SPLIT_KEYWORDS and NON_WORDS_CHARS
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_CANONICAL = {name: split for split, names in SPLITS.items() for name in names}
_KEYWORD = re.compile(rf"(?:.*[-._ 0-9])?({'|'.join(_CANONICAL)})(?:[-._ 0-9].*)?", re.I | re.S)
STRAY = "not in a label's folder"
DEEP = (
    "in a folder inside its label's folder; if that is a speaker or an artist, set "
    "data.name_pattern to '(?P<label>[^/]+)/(?P<group>[^/]+)/[^/]+$'"
)
NO_SPLIT = "not in a split's folder"


class Layout(NamedTuple):
    """How many folders wrap a corpus, and whether the next ones are splits."""

    wrappers: int = 0
    splits: bool = False

    def place(self, source: PurePath) -> tuple[str, str] | str:
        """A file's label and its split ("" if it has none), or why it has no label."""
        folders = list(source.parts[self.wrappers : -1])
        split = ""
        if self.splits and folders:
            split = split_of(folders.pop(0))
            if not split:
                return NO_SPLIT
        if len(folders) == 1:
            return folders[0], split
        return DEEP if folders else STRAY

    def outer_folder(self, source: PurePath) -> str:
        """The folder that would be the label, if only the file were in it."""
        folders = source.parts[self.wrappers + self.splits : -1]
        return folders[0] if folders else ""


def canonical(part: str) -> str:
    """train, validation or test for any of their usual names; other parts stay as they are."""
    return _CANONICAL.get(part.casefold(), part)


@functools.lru_cache(maxsize=1000)
def split_of(folder: str) -> str:
    """The split that a folder's name stands for, as train-clean does; "" if for none."""
    match = _KEYWORD.fullmatch(folder)
    return _CANONICAL[match[1].casefold()] if match else ""


def recognise(sources: Iterable[PurePath]) -> Layout:
    """The layout of a corpus, from its sound files' paths below its folder."""
    folders = _inside(source.parts[:-1] for source in sources)
    wrappers = 0
    while wrappers < MOST_WRAPPERS and _is_wrapper(folders):
        folders = _inside(each[1:] for each in folders)
        wrappers += 1
    depths = [len(each) for each in folders if split_of(each[0])]
    splits = len({split_of(each[0]) for each in folders} - {""}) > 1
    return Layout(wrappers, splits and 2 * depths.count(2) > len(folders))


def _inside(folders: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Without the strays, which are in no folder."""
    return [each for each in folders if each]


def _is_wrapper(folders: Sequence[tuple[str, ...]]) -> bool:
    """Whether one folder holds everything, and folders of clips rather than clips."""
    return len({each[0] for each in folders}) == 1 and all(len(each) > 1 for each in folders)
