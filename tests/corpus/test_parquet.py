"""Parquet corpora from the loopback Hub: which files are read, and what people are told."""

from __future__ import annotations

import io
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pytest
import yaml

from tests.support.hub_contents import WORDS, sound, words_parquet, words_readme
from tests.support.hub_place import python
from tests.support.loopback_hub import LoopbackHub

# Gathers each corpus on the command line and prints {corpus: [message, clips, skipped]}.
GATHER = """
import json, sys
from pathlib import Path
from genrepro.core.errors import PipelineError
from genrepro.core.files import atomic_output
from genrepro.core.params import Data
from genrepro.corpus import gather

found = {}
for name in sys.argv[1:]:
    try:
        with atomic_output(Path("gathered")) as raw:
            data = Data(corpus=name, facts=None, name_pattern=None, corrections=None)
            corpus = gather.gather(data, raw)
        clips = {clip.item.clip: [clip.item.label, clip.facts] for clip in corpus.clips}
        found[name] = ["", clips, corpus.skipped]
    except PipelineError as error:
        found[name] = [str(error), {}, {}]
assert "torch" not in sys.modules
print(json.dumps(found))
"""


def rows_parquet(labels: list, label_type: object, audio: object = None, times: int = 3) -> bytes:
    """Rows of noise, `times` per label; `label_type` is one of pyarrow's or datasets'."""
    rows = [
        {"audio": audio or {"bytes": sound(number), "path": None}, "label": label}
        for number, label in enumerate(labels * times)
    ]
    buffer = io.BytesIO()
    features = datasets.Features.from_arrow_schema(pyarrow.Table.from_pylist(rows).schema)
    if label_type is not None:
        features["label"] = label_type
    datasets.Dataset.from_list(rows, features=features).to_parquet(buffer)
    return buffer.getvalue()


def samples(channels: int = 1) -> dict:
    wave = np.random.default_rng(0).normal(0, 0.1, (channels, 8000)).round(3)
    return {"array": (wave if channels > 1 else wave[0]).tolist(), "sampling_rate": 16_000}


def shards(**of: bytes) -> dict[str, bytes]:
    return {f"data/{split}-00000-of-00001.parquet": content for split, content in of.items()}


NAMES = datasets.ClassLabel(names=["cat", "dog"])
ODD = {
    "floats": shards(train=rows_parquet([0.0, 1.0], None)),
    "one-hot": shards(train=rows_parquet([[0, 1, 0], [1, 0, 0], [0, 0, 0]], None)),
    "lists": shards(train=rows_parquet([[0], [1]], datasets.List(NAMES))),
    "samples": shards(train=rows_parquet(["a", "b"], None, samples())),
    "stereo": shards(train=rows_parquet(["a", "b"], None, samples(2))),
    "several": shards(train=rows_parquet([["a", "b"], ["c"], ["d"]], None)),
    "dev": shards(**{s: rows_parquet(["a", "b"], None) for s in ("train", "dev", "eval")}),
    "folder": {
        f"data/{split}/{label}/{split}{number}.wav": sound(number)
        for split in ("train", "test")
        for label in ("cat", "dog")
        for number in range(2)
    }
    | {"README.md": b"# sounds"},
}


@pytest.fixture(scope="module")
def hub():
    hub = LoopbackHub()
    words = {
        "README.md": words_readme(),
        "small/train-00000-of-00001.parquet": words_parquet("train"),
        "small/test-00000-of-00001.parquet": words_parquet("test"),
        "other/0.parquet": b"not requested",
        "torn/train-0.parquet": words_parquet("train")[:4000],
    }
    hub.add("datasets", "someone/words", words, WORDS)
    hub.add("datasets", "someone/gated", words, WORDS)
    for name, files in ODD.items():
        hub.add("datasets", f"odd/{name}", files, WORDS)
    yield hub
    hub.close()


def card(place: Path, name: str, **changes: object) -> str:
    content = {"kind": "parquet", "repo": "someone/words", "revision": WORDS, "config": "small"}
    content |= {"split": ["train", "test"], "label": "word", "group": "speaker"} | changes
    (place / name).mkdir()
    (place / name / "corpus.yaml").write_text(yaml.safe_dump(content))
    return name


def gathered(hub: LoopbackHub, place: Path, *corpora: str, **environment: str) -> dict:
    done = python(place, hub.url, "-c", GATHER, *corpora, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_readme_s_configuration_is_read_and_nothing_else_downloaded(hub, tmp_path):
    corpus = card(tmp_path, "words")
    message, clips, skipped = gathered(hub, tmp_path, corpus)["words"]
    assert message == ""
    assert len(clips) == 14
    assert clips["train-0"] == ["yes", {"group": "s0", "part": "train"}]
    assert {facts["part"] for _, facts in clips.values()} == {"train", "test"}
    assert list(skipped.values()) == ["the row holds no audio bytes"] * 2
    assert not any("other/" in path for path in hub.asked if path.startswith("GET"))
    requests = hub.asked.total()
    assert gathered(hub, tmp_path, corpus, HF_HUB_OFFLINE="1")["words"] == ["", clips, skipped]
    assert hub.asked.total() == requests


def test_a_wrong_card_is_explained_in_one_line(hub, tmp_path):
    corpora = {
        card(tmp_path, "column", label="keyword"): ["no column 'keyword'", "speaker"],
        card(tmp_path, "config", config="large"): ["no configuration 'large'", "small, other"],
        card(tmp_path, "several", config=None): ["several configurations", "small, other"],
        card(tmp_path, "torn", files="torn/*.parquet"): ["torn/train-0.parquet", "not readable"],
        card(tmp_path, "revision", revision="6" * 40): ["no revision", "6" * 40],
        card(tmp_path, "split", split="validation"): ["lacks a parquet file", "'validation'"],
    }
    found = gathered(hub, tmp_path, *corpora)
    for corpus, words in corpora.items():
        message = found[corpus][0]
        assert all(word in message for word in words), message
        assert "\n" not in message


@pytest.mark.parametrize("files", [None, "data/*.parquet"])
def test_a_private_corpus_says_so(hub, tmp_path, files):
    corpora = {
        card(tmp_path, "private", repo="fails/401", files=files): "does not accept this token",
        card(tmp_path, "forbidden", repo="fails/403", files=files): "does not let you read",
        card(tmp_path, "gated", repo="someone/gated", files=files): "is gated: ask for access",
    }
    found = gathered(hub, tmp_path, *corpora)
    for corpus, words in corpora.items():
        assert words in found[corpus][0]
        assert "cut short" not in found[corpus][0]


@pytest.mark.slow
def test_half_a_corpus_in_the_cache_is_not_taken_for_the_whole_offline(hub, tmp_path):
    shards = {f"data/train-0000{n}-of-00002.parquet": words_parquet(f"train{n}") for n in (0, 1)}
    hub.add("datasets", "someone/sharded", shards, "7" * 40)
    given = {"repo": "someone/sharded", "revision": "7" * 40, "config": None, "split": "train"}
    whole = card(tmp_path, "whole", **given)
    half = card(tmp_path, "half", files="data/train-00000*", **given)
    assert len(gathered(hub, tmp_path, half)["half"][1]) == 7  # as after a download that stopped
    message, _, _ = gathered(hub, tmp_path, whole, HF_HUB_OFFLINE="1")["whole"]
    assert "HF_HUB_OFFLINE is set" in message and "\n" not in message
    assert len(gathered(hub, tmp_path, whole)["whole"][1]) == 14
    assert len(gathered(hub, tmp_path, whole, HF_HUB_OFFLINE="1")["whole"][1]) == 14


@pytest.mark.slow
def test_labels_audio_and_splits_as_people_publish_them(hub, tmp_path):
    given = {"revision": WORDS, "config": None, "label": "label", "group": None}
    splits = {"dev": ["train", "validation", "test"]}
    corpora = [
        card(tmp_path, name, repo=f"odd/{name}", split=splits.get(name, ["train"]), **given)
        for name in ODD
        if name != "folder"
    ]
    (tmp_path / "folder").mkdir()
    whole = {"kind": "folder", "repo": "odd/folder", "revision": WORDS}
    (tmp_path / "folder/corpus.yaml").write_text(yaml.safe_dump(whole))
    found = gathered(hub, tmp_path, *corpora, "folder")
    assert not any(message for message, _, _ in found.values())
    labels = {name: {label for label, _ in clips.values()} for name, (_, clips, _) in found.items()}
    assert labels["floats"] == {"0", "1"}
    assert labels["one-hot"] == {"0", "1"}
    assert labels["lists"] == labels["folder"] == {"cat", "dog"}
    assert labels["samples"] == labels["stereo"] == {"a", "b"}
    assert labels["several"] == {"c", "d"}
    assert set(found["several"][2].values()) == {"has several labels (a, b): a clip must have one"}
    assert set(found["one-hot"][2].values()) == {"the row has no label"}
    parts = {facts["part"] for _, facts in found["dev"][1].values()}
    assert parts == {"train", "validation", "test"}
    assert {facts["part"] for _, facts in found["folder"][1].values()} == {"train", "test"}
