"""Tables that say which label each sound file has: a card's own, or 🤗 AudioFolder's metadata."""

from __future__ import annotations

import csv
import json
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path, PurePosixPath

from genrepro.core.errors import PipelineError, one_line
from genrepro.corpus.card import Files, Table
from genrepro.corpus.facts import COLUMNS, Facts
from genrepro.corpus.shelf import text
from genrepro.corpus.sources import Source, is_sound

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # datasets' METADATA_FILENAMES
Row = dict[str, object]


@dataclass
class Listing:
    """What a table says about files: a label (None if it has no such column) and facts."""

    origin: str  # the table's name, for messages
    rows: dict[PurePosixPath, tuple[str | None, Facts]] = field(default_factory=dict)
    faults: dict[PurePosixPath, str] = field(default_factory=dict)  # file -> why it is no clip
    lost: list[str] = field(default_factory=list)  # what rows name that is not there
    warnings: list[str] = field(default_factory=list)

    def add(self, file: PurePosixPath, label: str | None, facts: Facts) -> None:
        earlier, _ = self.rows.setdefault(file, (label, facts))
        if label == "":
            self.faults[file] = f"has no label in {self.origin}"
        elif earlier != label:
            self.faults[file] = f"has several labels in {self.origin} ({earlier}, {label})"

    def finished(self) -> Listing:
        if self.lost:
            total = len(self.lost) + len(self.rows)
            self.warnings.append(
                f"{self.origin}: {len(self.lost)} of {total} rows name no file, or several, "
                f"e.g. {self.lost[0]}"
            )
        return self


def listing(card: Files | None, sources: Sequence[Source]) -> Listing | None:
    """What the card's table or, without one, metadata files say; None if there are none."""
    return by_card(card, sources) if isinstance(card, Table) else by_metadata(sources)


def by_card(card: Table, sources: Sequence[Source]) -> Listing:
    """What the table of a card says about the sound files among `sources`.

    A row may name a file by its path, by the last parts of it, and without its ending, in any case
    of letters.

    Raises:
        PipelineError: the table is missing or unreadable, or lacks a column that the card names.
    """
    found, index = Listing(card.table), _Index(sources)
    columns = {"group": card.group, "title": card.title_column, "part": card.part}
    for row in read_rows(_find(card.table, sources), card.header_rows):
        try:
            if any(text(row[column]) != str(value) for column, value in card.where.items()):
                continue
            name = card.file.format_map(row) if "{" in card.file else _name(row[card.file])
            label = text(row[card.label]) if card.label else None
            facts = {key: text(row[column]) for key, column in columns.items() if column}
        except KeyError as error:
            raise PipelineError(
                f"{card.table} has no column {error}; it has: {', '.join(row)[:300]}: "
                "name the right one in the card."
            ) from None
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            raise PipelineError(f"the card's `file`, {card.file!r}: {one_line(error)}.") from None
        if file := index.find(name):
            found.add(file, label, {key: value for key, value in facts.items() if value})
        else:
            found.lost.append(name)
    return found.finished()


def by_metadata(sources: Sequence[Source]) -> Listing | None:
    """What 🤗 AudioFolder's metadata files say; None if there are none.

    Their column file_name is relative to their folder; a column `label`, and any of `group`,
    `title` and `part`, say the rest. Splits are in the path.

    Raises:
        PipelineError: one cannot be read.
    """
    found = None
    there = {source.name for source in sources}
    for table in (source for source in sources if source.name.name in METADATA):
        folder = table.name.parent
        found = found or Listing(table.name.name)
        columns: set[str] = set()
        for row in read_rows(table):
            columns |= set(row)
            if "file_name" not in row:
                break
            # What a ".." leads to is above the table's folder, and not taken.
            file = PurePosixPath(posixpath.normpath(folder / _name(row["file_name"])))
            if file in there and is_sound(file) and file.is_relative_to(folder):
                facts = {key: value for key in COLUMNS if (value := text(row.get(key)))}
                found.add(file, text(row["label"]) if "label" in row else None, facts)
            else:
                found.lost.append(str(file))
        for missing, so in (("file_name", "it is not used"), ("label", "labels are folders")):
            if missing not in columns:
                found.warnings.append(f"{table.name} has no column {missing}: {so}")
                break
    return found.finished() if found else None


def by_lists(lists: dict[str, str], sources: Sequence[Source]) -> dict[PurePosixPath, str]:
    """The split of each file: that of the text file which lists it, else train.

    Raises:
        PipelineError: such a text file is missing.
    """
    splits, index = {source.name: "train" for source in sources}, _Index(sources)
    for split, name in lists.items():
        listed = _find(name, sources).path.read_text("utf-8-sig", "replace").splitlines()
        for file in filter(None, map(index.find, listed)):
            splits[file] = split
    return splits


def read_rows(table: Source, header_rows: int = 1) -> Iterator[Row]:
    """The rows of a CSV, TSV, JSONL or Parquet file, in order.

    Args:
        header_rows: of a CSV or TSV; a column's name is its cells in them, joined by dots.

    Raises:
        PipelineError: it is not readable as what its ending says.
    """
    try:
        match table.name.suffix.lower():
            case ".parquet":
                from pyarrow import parquet  # few corpora need it

                with parquet.ParquetFile(table.path) as file:
                    for batch in file.iter_batches():
                        yield from batch.to_pylist()
            case ".jsonl":
                with table.path.open(encoding="utf-8-sig") as lines:
                    yield from (_object(line) for line in lines if line.strip())
            case ending:
                yield from _csv_rows(table.path, "," if ending == ".csv" else "\t", header_rows)
    except (ValueError, NotImplementedError, csv.Error, OSError) as error:  # pyarrow's, too
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PipelineError(
            f"{table.name} is not readable as a table: {one_line(error)}."
        ) from None


def _object(line: str) -> Row:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"a line is no object in braces: {line.strip()[:50]}")
    return row


def _csv_rows(path: Path, delimiter: str, header_rows: int) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        columns = zip(*islice(reader, header_rows), strict=True)
        names = [".".join(filter(None, map(str.strip, cells))) for cells in columns]
        for row in filter(any, reader):  # spreadsheets leave empty rows at the end
            yield dict(zip_longest(names, row[: len(names)], fillvalue=""))


def _name(value: object) -> str:
    return value if isinstance(value, str) else text(value)


def _find(name: str, sources: Sequence[Source]) -> Source:
    """A table by its path below the corpus, or below a folder that wraps it."""
    parts = PurePosixPath(name).parts
    found = [source for source in sources if source.name.parts[-len(parts) :] == parts]
    if not found:
        raise PipelineError(f"the card names {name}, which is not there: fix the card.")
    return min(found, key=lambda source: len(source.name.parts))


class _Index:
    """Finds sound files by the last parts of their paths."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._by_last: defaultdict[str, list[PurePosixPath]] = defaultdict(list)
        for name in (source.name for source in sources if is_sound(source.name)):
            for last in {name.name.casefold(), name.stem.casefold()}:
                self._by_last[last].append(name)

    def find(self, wanted: str) -> PurePosixPath | None:
        """The one file of that name; None if there is none, or several."""
        path = PurePosixPath(wanted.strip().replace("\\", "/"))
        *above, last = map(str.casefold, path.parts or ("",))
        found = [name for name in self._by_last.get(last, ()) if _is_below(name, above)]
        if len(found) > 1:  # 1.wav and 1.mp3, or Dog and dog
            found = [name for name in found if name.parts[-len(path.parts) :] == path.parts]
        return found[0] if len(found) == 1 else None


def _is_below(name: PurePosixPath, folders: list[str]) -> bool:
    above = [part.casefold() for part in name.parts[:-1]]
    return not folders or above[-len(folders) :] == folders
