"""Clips from the audio and label columns of parquet files on the Hub."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path, PurePath

import numpy as np
import soundfile
import yaml
from datasets import Audio, ClassLabel, Features, IterableDataset, List, load_dataset
from datasets.data_files import sanitize_patterns
from datasets.exceptions import DatasetsError
from datasets.utils.metadata import MetadataConfigs
from fsspec.utils import glob_translate
from huggingface_hub import DatasetCard
from huggingface_hub.constants import HF_HUB_OFFLINE
from pyarrow import ArrowException
from tqdm import tqdm

from genrepro.audio import extension_of
from genrepro.core.errors import PipelineError, one_line
from genrepro.corpus.card import Parquet
from genrepro.corpus.layout import SPLITS, canonical
from genrepro.corpus.shelf import Shelf, as_label, text
from genrepro.hub import client

ROWS_AT_ONCE = 16  # a row holds a whole clip
# Where a split's files usually are. Source: https://huggingface.co/docs/hub/datasets-file-names-and-splits
USUAL = ("{}-*.parquet", "{}.parquet", "{}/*.parquet", "data/{}-*.parquet", "data/{}/*.parquet")
CONVERTED = "default/{}/*.parquet"  # the Hub's own conversion to parquet
Label = str | tuple[str, ...] | None  # one, several or none


def take(card: Parquet, shelf: Shelf) -> None:
    """Download the card's parquet files and put each row's audio on the shelf, unchanged.

    Raises:
        PipelineError: the download failed, a file is damaged, or a column is missing.
    """
    for split in card.split:
        part = {"part": split} if len(card.split) > 1 else {}
        for file, path in _files(card, split):
            try:
                _take_file(card, file, path, part, shelf)
            except (ArrowException, DatasetsError, ValueError, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # the disk; core.stage.run says what to do
                words = one_line(error.__cause__ or error)
                raise PipelineError(f"{file} of {card.repo} is not readable: {words}.") from None


def _files(card: Parquet, split: str) -> list[tuple[str, Path]]:
    """The split's files, each as its name in the repository and its path in the cache."""
    patterns = card.files or _published(card, split)
    try:
        wanted = [re.compile(glob_translate(pattern)) for pattern in patterns]
    except ValueError as error:
        raise PipelineError(f"{card.repo}: `files`: {one_line(error)}.") from None
    # `*` crosses slashes for huggingface_hub and not for datasets: more files may be downloaded.
    folder = client.fetch_matching(card.repo, patterns, card.revision, "dataset")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    names = [name for name in names if any(pattern.match(name) for pattern in wanted)]
    if not names or (not card.files and _missing_shards(names)):
        looked_for = f"parquet file for split {split!r} (looked for {', '.join(patterns)})"
        if HF_HUB_OFFLINE:
            raise PipelineError(
                f"HF_HUB_OFFLINE is set, and the cache lacks a {looked_for} of {card.repo}: "
                "unset it and run once with network."
            )
        raise PipelineError(
            f"{card.repo} at {card.revision[:8]} lacks a {looked_for}: "
            "name its files in the card's `files`; if it holds sound files, use a card of kind "
            "`folder` or `table`."
        )
    return [(name, folder / name) for name in names]


def _missing_shards(names: list[str]) -> bool:
    """Whether there are fewer files than their names, …-00000-of-00003…, say."""
    shards = [re.search(r"(.*)-\d{5}-of-(\d{5})", name) for name in names]
    counts = Counter(shard.groups() for shard in shards if shard)
    return any(count < int(total) for (_, total), count in counts.items())


def _published(card: Parquet, split: str) -> list[str]:
    """Patterns for a split's files: as the repository's README configures them, or the usual ones.

    Source: https://huggingface.co/docs/hub/datasets-manual-configuration
    """
    configs = _configurations(card)
    known = ", ".join(configs)
    if card.config and configs and card.config not in configs:
        raise PipelineError(f"{card.repo} has no configuration {card.config!r}; it has: {known}.")
    name = card.config or configs.get_default_config_name()
    if configs and not name:
        raise PipelineError(
            f"{card.repo} has several configurations: name one in the card's `config`: {known}."
        )
    chosen = configs.get(name, {})
    names = [split, *(name for name in SPLITS.get(canonical(split), ()) if name != split)]
    configured = sanitize_patterns(chosen.get("data_files") or [])
    listed = next((configured[name] for name in names if name in configured), None)
    usual = [pattern.format(name) for name in names for pattern in (*USUAL, CONVERTED)]
    folder = chosen.get("data_dir") or ("" if listed or configs else card.config or "")
    prefix = f"{folder.strip('/')}/" if folder else ""
    return [prefix + pattern.removeprefix("./") for pattern in listed or usual]


def _configurations(card: Parquet) -> MetadataConfigs:
    """The configurations in the repository's README; none where it has none that can be read."""
    readme = client.fetch_matching(card.repo, ["README.md"], card.revision, "dataset") / "README.md"
    if not readme.is_file():
        return MetadataConfigs()
    try:
        found = MetadataConfigs.from_dataset_card_data(DatasetCard.load(readme).data)
        return MetadataConfigs({str(name): config for name, config in found.items()})
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return MetadataConfigs()  # the usual names are tried then


def _take_file(card: Parquet, file: str, path: Path, part: dict[str, str], shelf: Shelf) -> None:
    rows = load_dataset(
        "parquet", data_files=str(path), split="train", streaming=True, batch_size=ROWS_AT_ONCE
    )
    features = _checked(card, file, rows)
    feature = features[card.audio]
    if not (isinstance(feature, dict) and "array" in feature):
        rows = rows.cast_column(card.audio, Audio(decode=False))
    columns = {"group": card.group, "title": card.title_column}
    for number, row in enumerate(tqdm(rows, desc=file, unit=" clips", disable=None)):
        source = f"{file} row {number}"
        content, name = _content(row[card.audio])
        label = _label(row[card.label], features[card.label])
        extension = extension_of(content[:12]) if content else None
        if not content or not isinstance(label, str) or extension is None:
            known = label if isinstance(label, str) else ""
            shelf.refuse(source, _why(content, label), known)
            continue
        facts = {key: text(row[column]) for key, column in columns.items() if column} | part
        stem = PurePath(name).stem or f"{PurePath(file).stem}-{number:06d}"
        target = shelf.place(label, stem, extension, source, {k: v for k, v in facts.items() if v})
        if target:
            target.write_bytes(content)


def _content(audio: object) -> tuple[bytes | None, str]:
    """A row's sound file and its name; samples become a WAV file of 32-bit floats."""
    audio = audio if isinstance(audio, dict) else {}
    name = str(audio.get("path") or "")
    if audio.get("array") is None:
        return audio.get("bytes"), name
    samples = np.asarray(audio["array"], dtype=np.float32)
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        samples = samples.T  # soundfile's order: (samples, channels)
    file = io.BytesIO()
    try:
        soundfile.write(file, samples, int(audio["sampling_rate"]), "FLOAT", format="WAV")
    except (soundfile.LibsndfileError, KeyError, TypeError, ValueError, IndexError):
        return None, name
    return file.getvalue(), name


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


def _label(value: object, feature: object) -> Label:
    """A row's label; several of them if the row has several.

    A list of one is its element, and a list of zeros and ones (one-hot) the place of its one.
    """
    if isinstance(value, list | tuple):
        inner = feature.feature if isinstance(feature, List) else None
        hot = len(value) > 1 and all(each in (0, 1) for each in value)
        if hot and not isinstance(inner, ClassLabel):
            value = [place for place, each in enumerate(value) if each]
        labels = {label for each in value if isinstance(label := _label(each, inner), str)}
        return tuple(sorted(labels)) if len(labels) > 1 else next(iter(labels), None)
    if isinstance(feature, ClassLabel) and isinstance(value, int):
        value = feature.int2str(value) if 0 <= value < feature.num_classes else None
    if isinstance(value, float) and not value.is_integer():
        return None
    if isinstance(value, bool | int | float | str):
        return as_label(text(value)) or None
    return None


def _why(content: bytes | None, label: Label) -> str:
    if isinstance(label, tuple):
        return f"has several labels ({', '.join(label)}): a clip must have one"
    if not content:
        return "the row holds no audio bytes"
    return "the row has no label" if label is None else "not audio that can be decoded"
