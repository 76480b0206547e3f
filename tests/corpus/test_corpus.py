"""From a corpus folder to clips: folders, cards, facts, name patterns, odd names."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from pyarrow import parquet

from genrepro.core.errors import PipelineError
from genrepro.core.params import Data
from genrepro.corpus import facts
from genrepro.corpus import gather as corpus
from genrepro.corpus import parquet as hub_parquet
from genrepro.corpus.card import Parquet, load_card
from tests.support.samples import RATE, ROOT

USUAL = ["train-*.parquet"]


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    monkeypatch.setenv("GENREPRO_WORKERS", "1")


def put(path: Path, seed: int = 0, seconds: float = 0.3, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    soundfile.write(path, wave, RATE, **options)
    return path


def gather(folder: Path, **data: str) -> corpus.Corpus:
    given = {"corpus": str(folder), "facts": None, "name_pattern": None, "corrections": None} | data
    return corpus.gather(Data(**given), folder.parent / f".{folder.name}.raw")


def rows(found: corpus.Corpus) -> dict[str, dict[str, str]]:
    table = csv.DictReader(io.StringIO(corpus.table(found, Path("data/raw"))))
    return {row["clip"]: row for row in table}


def card(folder: Path, **content: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "corpus.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two labels of two clips."""
    for seed, name in enumerate(("cat/a1.wav", "cat/a2.flac", "dog/b1.ogg", "dog/b2.mp3")):
        put(tmp_path / "pets" / name, seed)
    return tmp_path / "pets"


def test_a_plain_folder_is_copied_byte_by_byte(folder):
    found = gather(folder)
    table = rows(found)
    assert list(table) == ["a1", "a2", "b1", "b2"]
    assert table["a2"]["path"] == "data/raw/cat/a2.flac"
    for clip in found.clips:
        original = folder / clip.item.label / clip.item.path.name
        assert clip.item.path.read_bytes() == original.read_bytes()
    summary = corpus.summary(found)
    assert summary["labels"] == {"cat": 2, "dog": 2}
    assert summary["skipped"] == []


def test_damaged_and_odd_files_are_skipped_or_read(folder):
    (folder / "cat" / "empty.wav").touch()
    (folder / "cat" / "text.wav").write_text("no sound")
    put(folder / "cat" / "short.wav", seconds=0.01)
    soundfile.write(folder / "cat" / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(folder / "dog" / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    soundfile.write(folder / "dog" / "six.wav", np.random.default_rng(0).random((RATE, 6)), RATE)
    put(folder / "dog" / "Füchse & Wölfe 音\u00a0.wav")
    put(folder / "dog" / "twin.wav", 5)
    put(folder / "dog" / "twin too.wav", 5)
    (folder / "dog" / "phone.m4a").write_bytes(b"x")
    (folder / "dog" / "._b1.wav").write_bytes(b"x")
    (folder / "dog" / "notes.txt").write_text("x")
    (folder / ".DS_Store").write_bytes(b"x")
    put(folder / "dog" / "deeper" / "x.wav")
    put(folder / "stray.wav")
    os.mkfifo(folder / "dog" / "pipe.wav")
    (folder / "dog" / "broken.wav").symlink_to("nowhere.wav")
    found = gather(folder)
    assert set(found.skipped) == {
        "cat/empty.wav",
        "cat/text.wav",
        "cat/short.wav",
        "cat/silent.wav",
        "dog/nan.wav",
        "dog/phone.m4a",
        "dog/._b1.wav",
        "dog/deeper/x.wav",
        "dog/pipe.wav",
        "dog/broken.wav",
        "stray.wav",
    }
    assert all(found.skipped.values())
    table = rows(found)
    assert table["six"]["channels"] == "6"
    assert table["Füchse & Wölfe 音\u00a0"]["label"] == "dog"
    assert table["twin"]["sha256"] == table["twin too"]["sha256"]
    left = {path.name for path in found.clips[0].item.path.parents[1].rglob("*.*")}
    assert left == {clip.item.path.name for clip in found.clips}


def test_every_file_is_a_clip_or_skipped_or_counted(folder):
    for name in ("a3.m4a", "a4.wav"):
        (folder / "cat" / name).write_text("x")
    for name in ("notes.txt", "dog/cover.JPG", "dog/b1.json", "LICENSE"):
        (folder / name).write_text("x")
    bird = folder / "bird"
    bird.mkdir()
    (bird / "c1.wma").write_text("x")
    put(folder / "owl" / "Ann" / "o1.wav")
    found = gather(folder)
    summary = corpus.summary(found)
    assert summary["not_audio"] == {".jpg": 1, ".json": 1, ".txt": 1, "no ending": 1}
    assert set(found.skipped) == {"bird/c1.wma", "cat/a3.m4a", "cat/a4.wav", "owl/Ann/o1.wav"}
    files = sum(path.is_file() for path in folder.rglob("*"))
    assert files == summary["clips"] + len(summary["skipped"]) + sum(summary["not_audio"].values())
    assert summary["warnings"] == [
        "label 'bird': 1 of 1 files were skipped",
        "label 'cat': 2 of 4 files were skipped",
        "label 'owl': 1 of 1 files were skipped",
    ]


def test_a_linked_folder_is_refused_unless_a_card_names_it(folder, tmp_path):
    put(tmp_path / "elsewhere" / "bird" / "c1.wav", 7)
    (folder / "bird").symlink_to(tmp_path / "elsewhere" / "bird")
    with pytest.raises(PipelineError, match="bird is a link to a folder"):
        gather(folder)
    (folder / "bird" / "up").symlink_to(folder)  # a cycle
    found = gather(card(tmp_path / "card", kind="folder", path=str(folder)))
    assert corpus.summary(found)["labels"] == {"bird": 1, "cat": 2, "dog": 2}


def test_channels_that_cancel_out_are_remarked_on(folder):
    shutil.copy(ROOT / "tests/cases/antiphase.wav", folder / "cat")
    (remark,) = corpus.summary(gather(folder))["remarks"]
    assert remark["clip"] == "antiphase"
    assert "cancel out" in remark["remark"]


def test_files_as_people_have_them_are_read_or_named(folder):
    """tests/cases has what people report; tests/test_decoders.py compares the samples."""
    files = [path for path in (ROOT / "tests/cases").iterdir() if path.is_file()]
    for path in files:
        shutil.copy(path, folder / "dog")
    summary = corpus.summary(gather(folder))
    assert summary["skipped"] == [
        {"file": "dog/web-page.mp3", "reason": "is a web page, not audio: the download failed"}
    ]
    cut = {each["clip"]: each["reason"] for each in summary["cut_short"]}
    assert cut == {
        "cut-in-the-middle": "holds 6.5 s of the 19.9 s that its header promises",
        "cut-in-the-middle-2": "holds 1.0 s of the 3.0 s that its header promises",
    }
    remarks = [{"clip": "antiphase", "remark": "its channels cancel out: the first one is used"}]
    assert summary["remarks"] == remarks
    assert summary["not_audio"] == {".csv": 1}
    assert summary["labels"]["dog"] >= len(files) - 2


def test_a_name_that_is_not_utf_8_is_skipped(folder):
    put(folder / "cat" / "x.wav").rename(folder / "cat" / os.fsdecode(b"caf\xe9.wav"))
    assert gather(folder).skipped == {"cat/caf\\udce9.wav": "its name is not valid UTF-8"}


def test_clips_of_one_name_are_told_apart(tmp_path):
    for seed, name in enumerate(("cat/1.wav", "cat/1.flac", "dog/1.wav", "dog/cat.1.wav")):
        put(tmp_path / "pets" / name, seed)
    table = rows(gather(tmp_path / "pets"))
    assert {clip: row["path"] for clip, row in table.items()} == {
        "1-2": "data/raw/cat/1-2.wav",
        "cat.1": "data/raw/dog/cat.1.wav",
        "cat.1-2": "data/raw/cat/cat.1-2.flac",
        "dog.1": "data/raw/dog/dog.1.wav",
    }


def test_facts_that_dvc_does_not_watch_are_refused(folder, tmp_path):
    (tmp_path / "facts.csv").write_text("clip,group\na1,Ann\n")
    for path in (tmp_path / "facts.csv", folder / ".." / "facts.csv"):
        with pytest.raises(PipelineError, match="DVC would not notice"):
            gather(folder, facts=str(path))


def test_facts_and_a_name_pattern(folder):
    (folder / "facts.csv").write_text(
        "\ufeffclip,title,group,more\na1,Miaow,Ann,x\r\ncat/a2,,Ben,x\r\nunknown,,Cy,x\r\n,,,\r\n,,,\r\n"
    )
    found = gather(
        folder, facts=str(folder / "facts.csv"), name_pattern=r"(?P<group>[ab])(?P<part>\d)"
    )
    table = rows(found)
    known = {clip: (row["group"], row["title"], row["part"]) for clip, row in table.items()}
    assert known == {
        "a1": ("Ann", "Miaow", "1"),
        "a2": ("Ben", "", "2"),
        "b1": ("b", "", "1"),
        "b2": ("b", "", "2"),
    }
    assert corpus.summary(found)["groups"] == 3


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "not a regular expression"),
        (r"\d", "must capture"),
        (r"(?P<artist>\d)", "must capture"),
        (r"(?P<group>xyz)", "matches none of the 4 file names"),
    ],
)
def test_a_wrong_name_pattern_is_refused(folder, pattern, words):
    with pytest.raises(PipelineError, match=words):
        gather(folder, name_pattern=pattern)


def test_a_name_pattern_that_matches_nothing_is_refused_although_the_corpus_has_groups(tmp_path):
    small = {"seed": 1, "seconds": 1.0, "sample_rate": 16000, "bands": 1}
    small |= {"genres_per_band": 10, "clips_per_genre": 1, "rests": 0, "noise": 40}
    music = card(tmp_path / "music", kind="generated", **small)
    with pytest.raises(PipelineError, match="matches none of the 10 file names"):
        gather(music, name_pattern="(?P<title>xyz)")


@pytest.mark.parametrize(
    ("configs", "patterns"),
    [
        ("[{config_name: x, data_files: ./a.parquet}]", ["a.parquet"]),
        ("[{config_name: x, data_files: [a.parquet, b.parquet]}]", ["a.parquet", "b.parquet"]),
        ("[{config_name: 2024, data_files: [{split: train, path: a.parquet}]}]", ["a.parquet"]),
        ("[{config_name: x, data_files: {train: a.parquet}}]", USUAL),
        ("[{config_name: x, data_dir: data}]", ["data/train-*.parquet"]),
        ("[{config_name: x, data_files: [{split: test, path: b.parquet}]}]", USUAL),
        ("[{data_files: a.parquet}]", USUAL),
        ("[{config_name: [a], data_files: 5}]", USUAL),
        ("7", USUAL),
    ],
)
def test_a_readme_configures_which_files_are_read(tmp_path, monkeypatch, configs, patterns):
    (tmp_path / "README.md").write_text(f"---\nconfigs: {configs}\n---\n")
    monkeypatch.setattr(hub_parquet.client, "fetch_matching", lambda *_: tmp_path)
    card = Parquet(kind="parquet", repo="a/b", revision="0" * 40)
    assert hub_parquet._published(card, "train")[: len(patterns)] == patterns


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name,group\nx,y\n", "needs a column clip"),
        (b"clip,artist\nx,y\n", "one of group, title, part"),
        (b"clip,group\nz,y\n", "lists none of the 4 clips"),
        (b"clip,group\na1,y\na1,z\n", "lists the clip 'a1' again"),
        (b"clip,group\n\xff\xfe,z\n", "not readable as CSV"),
        (b'clip,group\n"a', "not readable as CSV"),
        (b"", "needs a column clip"),
        (None, "there is no file"),
    ],
)
def test_wrong_facts_are_refused(folder, content, words):
    if content is not None:
        (folder / "facts.csv").write_bytes(content)
    with pytest.raises(PipelineError, match=words):
        gather(folder, facts=str(folder / "facts.csv"))


def test_gtzans_facts():
    table = facts.read_table(ROOT / "corpora" / "gtzan" / "clips.csv")
    parts = [row.get("part") for row in table.values()]
    assert len(table) == 1000
    assert [parts.count(p) for p in ("train", "validation", "test", None)] == [443, 197, 290, 70]
    assert sum("group" in row for row in table.values()) == 919


def test_a_folder_that_is_not_a_corpus_is_refused(tmp_path):
    with pytest.raises(PipelineError, match="there is no folder"):
        gather(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match="holds no usable clip"):
        gather(tmp_path / "empty")
    put(tmp_path / "one" / "cat" / "1.wav")
    with pytest.raises(PipelineError, match="a single label, 'cat'"):
        gather(tmp_path / "one")
    (tmp_path / "text" / "cat").mkdir(parents=True)
    (tmp_path / "text" / "cat" / "1.wav").write_text("x")
    with pytest.raises(PipelineError, match=r"1 files were skipped, e.g. cat/1.wav: is text, not"):
        gather(tmp_path / "text")


def test_a_card_that_points_at_a_folder(folder, tmp_path):
    pets = card(tmp_path / "card", kind="folder", path=str(folder), name_pattern=r"(?P<group>[ab])")
    assert {row["group"] for row in rows(gather(pets)).values()} == {"a", "b"}
    with pytest.raises(PipelineError, match="there is no file or folder nowhere"):
        gather(card(tmp_path / "lost", kind="folder", path="nowhere"))


GOOD = {"kind": "archive", "repo": "a/b", "file": "x.tar", "revision": "a" * 40, "sha256": "b" * 64}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (yaml.safe_dump({"kind": "zip"}), "kind: must be one of generated, folder, table, archive"),
        (yaml.safe_dump({"path": "x"}), "kind: must be one of"),
        ("- a list", "kind: must be one of"),
        ("", "kind: must be one of"),
        (yaml.safe_dump(GOOD | {"sha": "x"}), "sha: no such key.*the keys here are title"),
        (yaml.safe_dump({k: v for k, v in GOOD.items() if k != "file"}), "file: is missing"),
        (yaml.safe_dump(GOOD | {"revision": "main"}), "revision: must be a full commit"),
        (yaml.safe_dump(GOOD | {"sha256": 1}), "sha256: should be a valid string"),
        ("kind: [", "not readable as YAML"),
        ("[" * 5000, "not readable as YAML"),
        ("kind: !!python/object/apply:os.system [ls]", "not readable as YAML"),
        ("kind: \x00", "not readable as YAML"),
    ],
)
def test_a_wrong_card_is_refused(tmp_path, content, words):
    (tmp_path / "corpus.yaml").write_text(content)
    with pytest.raises(PipelineError, match=words):
        load_card(tmp_path)


def test_a_star_in_a_card_s_files_does_not_cross_slashes(tmp_path, monkeypatch):
    for name in ("a.parquet", "b/c.parquet", "b/d/e.parquet", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(hub_parquet.client, "fetch_matching", lambda *_: tmp_path)
    given = {"kind": "parquet", "repo": "a/b", "revision": "0" * 40}

    def names(files: list[str]) -> list[str]:
        return [name for name, _ in hub_parquet._files(Parquet(**given, files=files), "train")]

    assert names(["*.parquet"]) == ["a.parquet"]
    assert names(["b/*", "*.parquet"]) == ["a.parquet", "b/c.parquet"]
    assert names(["**/*.parquet"]) == ["a.parquet", "b/c.parquet", "b/d/e.parquet"]
    with pytest.raises(PipelineError, match="Invalid pattern"):
        names(["b/x**"])


def stage(place: Path, source: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"]["corpus"] = str(source)
    place.mkdir(exist_ok=True)
    (place / "params.yaml").write_text(yaml.safe_dump(params))
    return subprocess.run(
        [sys.executable, "-m", "stages", "fetch_data"],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_the_stage_writes_the_same_bytes_whatever_the_workers(tmp_path):
    small = {"title": "x", "seed": 1, "seconds": 1.0, "sample_rate": 16000, "bands": 1}
    demo = card(
        tmp_path / "demo",
        kind="generated",
        genres_per_band=10,
        clips_per_genre=1,
        rests=0,
        noise=40,
        **small,
    )
    trees = []
    elsewhere = {"GENREPRO_WORKERS": "2", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    for place, environment in (("one", {"GENREPRO_WORKERS": "1"}), ("two", elsewhere)):
        done = stage(tmp_path / place, demo, **environment)
        assert done.returncode == 0, done.stderr
        files = [path for path in (tmp_path / place).rglob("*") if path.is_file()]
        trees.append(
            {
                str(path.relative_to(tmp_path / place)): path.read_bytes()
                for path in files
                if "speed" not in path.parts
            }
        )
    assert trees[0] == trees[1]
    table = parquet.read_table(tmp_path / "one" / "data" / "fingerprints.parquet")
    clips = rows_of(tmp_path / "one" / "data" / "clips.csv")
    assert table["clip"].to_pylist() == [row["clip"] for row in clips]
    assert str(table["fingerprint"].type.value_type) == "uint32"
    assert clips[0]["group"]
    assert json.loads(trees[0]["metrics/data.json"])["groups"] == 1


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_stage_fails_in_one_sentence_and_writes_nothing(tmp_path):
    done = stage(tmp_path / "place", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: data.corpus: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list((tmp_path / "place").rglob("*raw*"))
