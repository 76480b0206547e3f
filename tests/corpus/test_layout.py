"""The layouts in which people download data: which label and which split a folder stands for."""

from __future__ import annotations

import random
from pathlib import Path, PurePath

import pytest
import soundfile
from datasets import load_dataset_builder

from genrepro.core.params import Data
from genrepro.corpus import gather
from genrepro.corpus.layout import SPLITS, Layout, recognise
from tests.support.samples import RATE, tone


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


@pytest.mark.parametrize("seed", range(12))
def test_random_trees_are_read_as_by_datasets(tmp_path, monkeypatch, seed):
    """The same files, with the same labels and splits, as `load_dataset("audiofolder")` finds."""
    monkeypatch.setenv("GENREPRO_WORKERS", "1")
    dice = random.Random(seed)
    root = tmp_path / "tree"
    labels = dice.sample(["rain", "dog bark", "A-b", "Füchse", "sea.waves"], dice.randint(2, 4))
    wanted = dice.sample(sorted(SPLITS), dice.choice([2, 3])) if seed % 3 else []
    folders = [dice.choice(SPLITS[split]) for split in wanted] or [""]
    for number, folder in enumerate(folders):
        for label in labels:
            for clip in range(dice.randint(1, 2)):
                place = root / folder / label / f"{number}-{label}-{clip}.wav"
                place.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(place, tone(440, 0.2), RATE)
    builder = load_dataset_builder("audiofolder", data_dir=str(root), cache_dir=str(tmp_path / "c"))
    theirs = {
        (Path(file).name, Path(file).parent.name, str(split))
        for split, files in builder.config.data_files.items()
        for file in files
    }
    data = Data(corpus=str(root), facts=None, name_pattern=None)
    found = gather.gather(data, tmp_path / "raw")
    ours = {
        (clip.item.path.name, clip.item.label, clip.facts.get("part", "train"))
        for clip in found.clips
    }
    assert ours == theirs
