"""The encoded corpus: 🤗 Datasets can read it, and reading it copies nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.encoding.parts import read_parts
from genrepro.encoding.store import Encoded, write_index, write_shard
from tests.support.samples import ROOT

WAVES = [("a", 0, (400,)), ("a", 1, (400,)), ("b", 0, (399,)), ("ç d", 0, (7,))]
SPECTROGRAMS = [("a", 0, (30, 8)), ("b", 0, (30, 8)), ("b", 1, (29, 8))]


def write(folder, described, name):
    """Write two shards; return the rows as written."""
    random = np.random.default_rng(0)
    rows = [(clip, n, random.normal(size=shape).astype(np.float16)) for clip, n, shape in described]
    shards = [folder / f"data-{n:05d}-of-00002.arrow" for n in range(2)]
    for shard, part in zip(shards, (rows[:2], rows[2:])):
        write_shard(shard, part, name, len(described[0][2]))
    write_index(folder, shards)
    return rows


@pytest.mark.parametrize(
    ("described", "name"), [(WAVES, "input_values"), (SPECTROGRAMS, "input_features")]
)
def test_features_are_read_back_bit_for_bit_here_and_by_datasets(tmp_path, described, name):
    from datasets import load_from_disk

    rows = write(tmp_path, described, name)
    encoded = Encoded.open(tmp_path)
    theirs = load_from_disk(str(tmp_path)).with_format("numpy")
    assert len(encoded) == len(theirs) == len(rows)
    assert encoded.input_name == name
    for index, (clip, number, features) in enumerate(rows):
        assert (encoded.clip[index], encoded.segment[index]) == (clip, number)
        assert np.array_equal(encoded[index], features) and encoded[index].dtype == np.float16
        assert theirs[index]["clip"] == clip
        assert np.array_equal(np.array(theirs[index][name], dtype=np.float16), features)


def test_rows_are_read_only_views_of_the_mapped_file(tmp_path):
    write(tmp_path, WAVES, "input_values")
    features = Encoded.open(tmp_path)[0]
    assert not features.flags.owndata and not features.flags.writeable


def test_the_digest_changes_with_the_features(tmp_path):
    for name, scale in (("one", 1), ("two", 2), ("three", 1)):
        (tmp_path / name).mkdir()
        shard = tmp_path / name / "data-00000-of-00001.arrow"
        write_shard(shard, [("a", 0, np.full(9, scale, np.float16))], "input_values", 1)
        write_index(tmp_path / name, [shard])
    one, two, three = (Encoded.open(tmp_path / name).digest for name in ("one", "two", "three"))
    assert one == three != two


@pytest.mark.parametrize("damage", ["no folder", "no index", "cut index", "no shard", "cut shard"])
def test_a_damaged_folder_is_refused_with_the_command_to_type(tmp_path, damage):
    folder = tmp_path / "encoded"
    folder.mkdir()
    write(folder, WAVES, "input_values")
    shard = folder / "data-00001-of-00002.arrow"
    match damage:
        case "no folder":
            folder = tmp_path / "elsewhere"
        case "no index":
            (folder / "state.json").unlink()
        case "cut index":
            (folder / "state.json").write_text("{")
        case "no shard":
            shard.unlink()
        case "cut shard":
            shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(PipelineError, match="dvc repro"):
        Encoded.open(folder)


def test_the_split_is_joined_with_the_encoded_segments(tmp_path):
    write(tmp_path, WAVES, "input_values")
    split = tmp_path / "split.csv"
    split.write_text("clip,label,split\nb,y,train\nç d,x,test\na,x,train\n", encoding="utf-8")
    parts, labels = read_parts(split, Encoded.open(tmp_path))
    assert labels == ["x", "y"]
    assert parts["train"].clips == ["a", "b"] and parts["train"].targets == [0, 1]
    assert parts["train"].rows == [0, 1, 2] and parts["train"].clip_of == [0, 0, 1]
    assert parts["test"].clips == ["ç d"] and parts["validation"].rows == []


def test_a_clip_that_is_not_encoded_is_named(tmp_path):
    write(tmp_path, WAVES, "input_values")
    split = tmp_path / "split.csv"
    split.write_text("clip,label,split\nzz,y,train\na,x,train\n")
    with pytest.raises(PipelineError, match="zz"):
        read_parts(split, Encoded.open(tmp_path))


def test_a_clip_that_changed_since_it_was_fetched_is_named(in_tmp, monkeypatch):
    from transformers import Wav2Vec2FeatureExtractor

    from stages import encode

    monkeypatch.setenv("GENREPRO_WORKERS", "1")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, name)
    Wav2Vec2FeatureExtractor().save_pretrained("models/backbone")
    clip = Path("data/raw/cat/a.wav")
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"no longer sound")
    Path("data/clips.csv").write_text(f"clip,path,seconds,sha256\na,{clip},1.0,{'0' * 64}\n")
    with pytest.raises(PipelineError, match=r"data/raw/cat/a\.wav has changed .*-f fetch_data`"):
        encode.main(load())
    assert not Path("data/encoded").exists()
