"""Clips from the audio and label columns of parquet files on the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath

from datasets import Audio, ClassLabel, Features, IterableDataset, load_dataset
from datasets.exceptions import DatasetsError
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from pyarrow import ArrowException
from tqdm import tqdm

from genrepro.audio import extension_of
from genrepro.core import config
from genrepro.core.errors import PipelineError, one_line
from genrepro.corpus.card import Parquet, matches
from genrepro.corpus.shelf import Shelf, printable
from genrepro.hub import client

README = "README.md"
MOST_README = 300_000  # characters; to read so much takes seconds
ROWS_AT_ONCE = 16  # a row holds a whole clip


def take(card: Parquet, shelf: Shelf) -> None:
    """Fetch the card's parquet files and put each row's audio on the shelf, byte by byte.

    Raises:
        PipelineError: the Hub does not give them, they are damaged, or a column is not there.
    """
    for split in card.split:
        part = {"part": split} if len(card.split) > 1 else {}
        for file, path in _files(card, split):
            try:
                _take_file(card, file, path, part, shelf)
            except (
                ArrowException,
                DatasetsError,
                UnicodeDecodeError,
                ValueError,
                OSError,
            ) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # the disk; runtime.run says what to do
                words = one_line(error.__cause__ or error)
                raise PipelineError(f"{file} of {card.repo} is not readable: {words}.") from None


def _files(card: Parquet, split: str) -> list[tuple[str, Path]]:
    """The split's files, each as its name in the repository and its path in the cache."""
    patterns = card.files or _published(card, split)
    # huggingface_hub's `*` crosses slashes, ours does not: it may fetch a file that is not read.
    folder = client.fetch_matching(card.repo, patterns, card.revision, "dataset")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    names = [name for name in names if matches(name, patterns)]
    if not names:
        raise PipelineError(
            f"{card.repo} at {card.revision[:8]} holds no parquet file for split {split!r} "
            f"(looked for {', '.join(patterns)}): name them in the card's `files`."
        )
    return [(name, folder / name) for name in names]


def _published(card: Parquet, split: str) -> list[str]:
    """Patterns for a split: as the repository's README names them, else by the usual names.

    Source: https://huggingface.co/docs/hub/datasets-manual-configuration
    """
    configs = [c for c in _listed(_readme(card).get("configs")) if isinstance(c, dict)]
    named = {str(c.get("config_name", "default")): c for c in configs}
    if card.config and named and card.config not in named:
        raise PipelineError(
            f"{card.repo} has no configuration {card.config!r}; it has: {', '.join(named)}."
        )
    chosen = named.get(card.config or "default")
    if chosen is None and len(named) > 1:
        raise PipelineError(
            f"{card.repo} has several configurations: name one in the card's `config`: "
            f"{', '.join(named)}."
        )
    chosen = chosen or next(iter(named.values()), {})
    folder = f"{chosen['data_dir'].strip('/')}/" if isinstance(chosen.get("data_dir"), str) else ""
    patterns = list(_of_split(chosen.get("data_files"), split))
    if patterns:
        return [folder + pattern.removeprefix("./") for pattern in patterns]
    inside = folder or (f"{card.config}/" if card.config else "")
    return [
        f"{inside}{split}-*.parquet",
        f"{inside}{split}.parquet",
        f"{inside}{split}/*.parquet",
        f"{inside}data/{split}-*.parquet",
        f"{inside}data/{split}/*.parquet",
        f"default/{split}/*.parquet",  # the Hub's own conversion
    ]


def _of_split(data_files: object, split: str) -> Iterator[str]:
    """The patterns that a README's `data_files` gives for a split; without one, all is train."""
    if isinstance(data_files, dict):
        data_files = [{"split": key, "path": value} for key, value in data_files.items()]
    for entry in _listed(data_files):
        if isinstance(entry, str) and split == "train":
            yield entry
        elif isinstance(entry, dict) and entry.get("split") == split:
            yield from (path for path in _listed(entry.get("path")) if isinstance(path, str))


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _readme(card: Parquet) -> dict:
    try:
        path = client.fetch(card.repo, README, card.revision, "dataset")
        with path.open(encoding="utf-8") as file:
            block = REGEX_YAML_BLOCK.search(file.read(MOST_README))
        known = config.parse(block[2]) if block else {}
    except (client.MissingFile, ValueError):
        known = {}  # the usual names are tried then
    return known if isinstance(known, dict) else {}


def _take_file(card: Parquet, file: str, path: Path, part: dict[str, str], shelf: Shelf) -> None:
    rows = load_dataset(
        "parquet", data_files=str(path), split="train", streaming=True, batch_size=ROWS_AT_ONCE
    )
    features = _checked(card, file, rows)
    rows = rows.cast_column(card.audio, Audio(decode=False))
    columns = {"group": card.group, "title": card.title_column}
    for number, row in enumerate(tqdm(rows, desc=file, unit=" clips", disable=None)):
        source = f"{file} row {number}"
        audio = row[card.audio] or {}
        content, name = audio.get("bytes"), audio.get("path") or ""
        label = _label(row[card.label], features[card.label])
        extension = extension_of(content[:12]) if content else None
        if not content or label is None or extension is None:
            shelf.refuse(source, _why(content, label))
            continue
        facts = {key: _text(row[column]) for key, column in columns.items() if column} | part
        stem = PurePath(name).stem or f"{PurePath(file).stem}-{number:06d}"
        target = shelf.place(label, stem, extension, source, {k: v for k, v in facts.items() if v})
        if target:
            target.write_bytes(content)


def _checked(card: Parquet, file: str, rows: IterableDataset) -> Features:
    features = rows.features or Features()
    wanted = [card.audio, card.label, *filter(None, (card.group, card.title_column))]
    missing = [column for column in wanted if column not in features]
    if missing:
        raise PipelineError(
            f"{file} of {card.repo} has no column {missing[0]!r}; it has: {', '.join(features)}: "
            "name the right one in the card."
        )
    return features


def _label(value: object, feature: object) -> str | None:
    if isinstance(feature, ClassLabel) and isinstance(value, int):
        value = feature.int2str(value) if 0 <= value < feature.num_classes else None
    if isinstance(value, bool | int | str):
        return printable(_text(value)).replace("/", "-").replace("\\", "-") or None
    return None


def _text(value: object) -> str:
    return " ".join(str(value if value is not None else "").split())


def _why(content: bytes | None, label: str | None) -> str:
    if not content:
        return "the row holds no audio bytes"
    return "the row has no label" if label is None else "not wav, flac, ogg or mp3"
