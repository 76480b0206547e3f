"""The layouts in which people download data: which label and which split a folder stands for."""

from __future__ import annotations

import random
from pathlib import Path, PurePath

import pandas as pd
import pytest
from datasets import DownloadConfig, DownloadManager, disable_progress_bars, load_dataset_builder

from genrepro.corpus import folder
from genrepro.corpus.layout import SPLITS, Layout, recognise
from genrepro.corpus.shelf import Shelf
from genrepro.corpus.sources import walk


def placed(*names: str) -> dict[str, tuple[str, str] | str]:
    sources = [PurePath(name) for name in names]
    layout = recognise(sources)
    return {str(source): layout.place(source) for source in sources}


@pytest.mark.parametrize("wrapper", ["", "Data/", "Data/genres_original/"])
def test_folders_that_wrap_a_corpus_are_not_labels(wrapper):
    found = placed(f"{wrapper}blues/1.wav", f"{wrapper}jazz/1.wav")
    assert list(found.values()) == [("blues", ""), ("jazz", "")]


def test_a_single_label_is_not_a_wrapper():
    assert placed("cat/1.wav", "cat/2.wav") == {"cat/1.wav": ("cat", ""), "cat/2.wav": ("cat", "")}


@pytest.mark.parametrize("wrapper", ["", "corpus/"])
def test_audio_folder_s_splits_are_recognised(wrapper):
    names = [f"{wrapper}{split}/cat/1.wav" for split in ("Training", "dev", "eval")]
    splits = ["train", "validation", "test"]
    assert list(placed(*names).values()) == [("cat", split) for split in splits]


def test_labels_that_are_named_as_splits_stay_labels():
    assert list(placed("train/1.wav", "test/1.wav").values()) == [("train", ""), ("test", "")]
    assert recognise([PurePath("train/a/1.wav"), PurePath("bird/a/1.wav")]) == Layout()


def test_files_outside_a_label_are_refused():
    found = placed("stray.wav", "cat/1.wav", "dog/1.wav", "dog/deeper/2.wav")
    assert found["stray.wav"] == "not in a label's folder"
    assert "in a folder inside its label's folder" in found["dog/deeper/2.wav"]


# -- against datasets' AudioFolder --

DECORATED = ("{}", "{}-clean", "{} 1", "my_{}", "2024.{}")
LABELS = ("rain", "dog bark", "A-b", "Füchse", "sea.waves", "0", "DOG", "trains")
Clip = tuple[str, str, str]  # path, label, split


def write(file: Path, content: str = "x") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def plant(root: Path, dice: random.Random) -> None:
    """A random tree: wrapped or not, with splits or not, with folders or metadata for labels."""
    base = root.joinpath(*dice.choice([(), (), ("Data",), ("Data", "audio files")]))
    labels = dice.sample(LABELS, dice.randint(2, 4))
    splits = dice.sample(sorted(SPLITS), dice.choice([2, 3])) if dice.random() < 0.6 else []
    folders = [dice.choice(DECORATED).format(dice.choice(SPLITS[split])) for split in splits]
    metadata = dice.choice(["", "", ".csv", ".jsonl", ".parquet"])
    deep = "clips/" if metadata and dice.random() < 0.5 else ""
    for number, split in enumerate(folders or [""]):
        rows = []
        for label in labels:
            for clip in range(dice.randint(1, 3)):
                ending = dice.choice([".wav", ".flac", ".MP3", ".ogg"])
                name = f"{label}/{clip}-{number}{ending}"
                if metadata:
                    name = f"{deep}{number}-{clip} {label}{ending}"
                write(base / split / name)
                rows.append({"file_name": name, "label": label})
        if metadata:
            dice.shuffle(rows)
            if len(rows) > len(labels) + 1:
                rows.pop()  # a file that is not listed
            tabulate(base / split / f"metadata{metadata}", rows)
    for name in dice.sample(("README.md", "cover.jpg", ".DS_Store", "notes.txt"), 2):
        write(dice.choice([root, base, base / (folders or [""])[0]]) / name)
    for name in dice.sample((".cache/x.wav", "__MACOSX/rain/x.wav", ".x.wav"), 1):
        write(root / name)


def tabulate(path: Path, rows: list[dict[str, str]]) -> None:
    frame = pd.DataFrame(rows)
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".jsonl":
            frame.to_json(path, orient="records", lines=True, force_ascii=False)
        case ".parquet":
            frame.to_parquet(path, index=False)


def by_datasets(root: Path, cache: Path) -> set[Clip]:
    builder = load_dataset_builder("audiofolder", data_dir=str(root), cache_dir=str(cache))
    found = set()
    for generator in builder._split_generators(builder_downloads(cache)):
        for _, example in builder._generate_examples(**generator.gen_kwargs):
            path = Path(example["audio"]).relative_to(root)
            found.add((path.as_posix(), str(example["label"]), str(generator.name)))
    return found


def builder_downloads(cache: Path) -> DownloadManager:
    return DownloadManager(download_config=DownloadConfig(cache_dir=cache))


def by_this_project(root: Path, raw: Path) -> set[Clip]:
    shelf = Shelf(raw)
    folder.take(walk(root), shelf)
    return {(item.source, item.label, item.facts.get("part", "train")) for item in shelf.items}


@pytest.mark.parametrize(
    "seeds",
    [range(30), pytest.param(range(30, 200), marks=pytest.mark.slow)],
    ids=["30 trees", "170 more"],
)
def test_random_trees_are_read_as_by_datasets(tmp_path, seeds):
    """The same files, with the same labels and splits, as `load_dataset("audiofolder")` finds."""
    disable_progress_bars()
    for seed in seeds:
        root = tmp_path / f"tree{seed}"
        plant(root, random.Random(seed))
        theirs = by_datasets(root, tmp_path / "cache")
        ours = by_this_project(root, tmp_path / f"raw{seed}")
        assert theirs and ours == theirs, seed
