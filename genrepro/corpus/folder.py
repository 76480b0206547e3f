"""From a corpus' files to the shelf: each sound file under its label, with its facts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from genrepro.audio import sound_extension
from genrepro.corpus import tables
from genrepro.corpus.card import Files, Table
from genrepro.corpus.facts import Facts, searched
from genrepro.corpus.layout import DEEP, NO_SPLIT, recognise, split_of
from genrepro.corpus.shelf import Shelf, as_label
from genrepro.corpus.sources import Source, is_sound


def take(
    sources: Sequence[Source],
    shelf: Shelf,
    card: Files | None = None,
    pattern: re.Pattern[str] | None = None,
    move: bool = False,
) -> None:
    """Put the sound files among `sources` on the shelf, in their order.

    Args:
        pattern: data.name_pattern; if it has a group `label`, that is the label.
        move: whether to move the files instead of copying them.

    Raises:
        PipelineError: a table that the card names is missing or wrong.
    """
    sounds = []
    for source in sources:
        if not is_sound(source.name) and not sound_extension(source.path):
            shelf.ignore(source.name.name)
        elif reason := _unwanted(source.name):
            shelf.refuse(str(source.name), reason)
        else:
            sounds.append(source)
    places = _Places(sources, sounds, card, pattern)
    shelf.warnings += places.warnings
    for source in sounds:
        name, found = source.name, places.of(source.name)
        if isinstance(found, str):
            shelf.refuse(str(name), found, places.outer_folder(name) if found == DEEP else "")
        elif not source.path.is_file():
            shelf.refuse(str(name), "not a regular file, or a broken link", found[0])
        elif target := shelf.place(found[0], name.stem, name.suffix, str(name), found[1]):
            if move:
                source.path.replace(target)
            else:
                shelf.copy(source.path, target)


def _unwanted(name: PurePosixPath) -> str | None:
    if name.name.startswith("."):
        return "hidden file"
    special = [part for part in name.parts[:-1] if part.startswith("__")]  # __MACOSX; as datasets
    return f"in {special[0]}, whose name begins with __" if special else None


class _Places:
    """Which label and facts a file has: by the pattern, else a table, else its folders."""

    def __init__(
        self,
        sources: Sequence[Source],
        sounds: Sequence[Source],
        card: Files | None,
        pattern: re.Pattern[str] | None,
    ) -> None:
        self._pattern = pattern if pattern and "label" in pattern.groupindex else None
        self._labels = card.labels if card else None
        self._lists = tables.by_lists(card.lists, sources) if card and card.lists else {}
        listing = tables.listing(card, sources)
        self._rows = listing.rows if listing else {}
        self._faults = dict(listing.faults) if listing else {}
        self.warnings = listing.warnings if listing else []
        labelled = any(label is not None for label, _ in self._rows.values())
        if listing and (labelled or isinstance(card, Table)):
            for source in sounds:
                if source.name not in self._rows:
                    self._faults[source.name] = f"not listed in {listing.origin}"
        self._layout = recognise(source.name for source in sounds)
        self.outer_folder = self._layout.outer_folder
        by_folder = sounds if labelled and not isinstance(card, Table) else ()
        self._splits = len({_split(source.name) for source in by_folder} - {""}) > 1

    def of(self, name: PurePosixPath) -> tuple[str, Facts] | str:
        """The label and the facts of a sound file, or why it is no clip."""
        if fault := self._faults.get(name):
            return fault
        label, facts = self._rows.get(name, (None, {}))
        split = _split(name) if self._splits else ""
        if self._pattern:
            match = searched(self._pattern, name.name, str(name))
            label = match["label"] if match else ""
            if not label:
                return "its name does not match name_pattern"
        elif self._splits and not split:
            return NO_SPLIT
        elif label is None:
            place = self._layout.place(name)
            if isinstance(place, str):
                return place
            label, split = place
        if self._labels is not None:
            if label not in self._labels:
                return f"its label {label!r} is not among the card's `labels`"
            label = self._labels[label]
        part = self._lists.get(name, split)
        return as_label(label), ({"part": part} if part else {}) | facts


def _split(name: PurePosixPath) -> str:
    return next(filter(None, map(split_of, name.parts[:-1])), "")
