"""The real huggingface_hub and datasets against a server here that speaks the Hub's protocol.

Everything runs in subprocesses, since HF_ENDPOINT is read when they are imported; each does several
things, since importing them takes seconds.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import time
from pathlib import Path

import pytest
import yaml

from tests.support.hub_contents import DISTILHUBERT, WORDS, fill, gtzan_tarball
from tests.support.hub_place import ROOT, TOKEN, files_of, one_sentence, python, write_params
from tests.support.loopback_hub import FAILURES, LoopbackHub

# Fetches each model id on the command line, all at once, and prints {id: [sentence, seconds]}.
FETCH_MODELS = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from genrepro import pretrained
from genrepro.core.errors import PipelineError
from genrepro.core.files import atomic_output
from genrepro.core.params import Model

def attempt(asked):
    start = time.perf_counter()
    repo, _, revision = asked.partition("@")
    model = Model(id=repo, revision=revision or None, allow_pickle=False)
    try:
        with atomic_output(Path("fetched") / repo.replace("/", "-")) as folder:
            pretrained.take(model, folder)
        said = "fetched"
    except PipelineError as error:
        said = str(error)
    return asked, [said, time.perf_counter() - start]

with ThreadPoolExecutor(20) as pool:
    print(json.dumps(dict(pool.map(attempt, sys.argv[1:]))))
"""

# Gathers each corpus on the command line and prints {corpus: sentence}.
GATHER = """
import json, sys
from pathlib import Path
from genrepro.core.errors import PipelineError
from genrepro.core.files import atomic_output
from genrepro.core.params import Data
from genrepro.corpus import gather

said = {}
for name in sys.argv[1:]:
    try:
        with atomic_output(Path("gathered")) as raw:
            gather.gather(Data(corpus=name, facts=None, name_pattern=None), raw)
        said[name] = "gathered"
    except PipelineError as error:
        said[name] = str(error)
assert "torch" not in sys.modules
print(json.dumps(said))
"""

# Runs the stages on the command line one after another: what they import is imported once.
RUN_STAGES = """
import importlib, sys
from genrepro.core.params import load
for name in sys.argv[1:]:
    importlib.import_module(f"stages.{name}").main(load())
"""


@pytest.fixture(scope="module")
def hub():
    hub = LoopbackHub()
    fill(hub)
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A working folder with the GTZAN card, its sha256 that of the small tarball."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(ROOT / "corpora" / "gtzan", place / "corpora" / "wrong")
    shutil.copytree(ROOT / "corpora" / "gtzan", place / "corpora" / "gtzan")
    shutil.copy(ROOT / "dvc.yaml", place)  # stages resume by what it declares
    (place / "backbones").mkdir()
    shutil.copy(ROOT / "backbones" / "revisions.yaml", place / "backbones")
    card = yaml.safe_load((place / "corpora/gtzan/corpus.yaml").read_text())
    card["sha256"] = hashlib.sha256(gtzan_tarball()).hexdigest()
    (place / "corpora/gtzan/corpus.yaml").write_text(yaml.safe_dump(card))
    return place


def clips_of(place: Path) -> dict[str, dict[str, str]]:
    with (place / "data/clips.csv").open(encoding="utf-8", newline="") as file:
        return {row["clip"]: row for row in csv.DictReader(file)}


def test_gtzan_comes_from_the_hub_and_then_from_the_cache(hub, place):
    write_params(place)
    done = python(place, hub.url, "-m", "stages", "fetch_data")
    assert done.returncode == 0, done.stderr
    clips = clips_of(place)
    assert len(clips) == 9
    assert clips["blues.00000"]["group"] == "John Lee Hooker"
    assert clips["blues.00000"]["part"] == "validation"
    assert clips["jazz.00001"]["path"] == "data/raw/jazz/jazz.00001.wav"
    assert float(clips["jazz.00001"]["seconds"]) == pytest.approx(0.3, abs=0.001)
    report = json.loads((place / "metrics/data.json").read_text())
    skipped = {entry["file"]: entry["reason"] for entry in report["skipped"]}
    assert len(skipped) == 10
    assert "hidden" in skipped["genres/blues/._blues.00000.wav"]
    assert "decoded" in skipped["genres/jazz/jazz.00054.wav"]

    before, asked = files_of(place / "data"), hub.asked.total()
    shutil.rmtree(place / "data")
    done = python(place, hub.url, "-m", "stages", "fetch_data", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert files_of(place / "data") == before
    assert hub.asked.total() == asked


def test_distilhubert_comes_from_the_hub_and_loads_without_it(hub, place):
    write_params(place)
    done = python(place, hub.url, "-m", "stages", "fetch_model")
    assert done.returncode == 0, done.stderr
    folder = place / "models/backbone"
    assert set(files_of(folder)) == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "source.json",
    }
    source = json.loads((folder / "source.json").read_text())
    assert (source["id"], source["revision"]) == ("ntu-spml/distilhubert", DISTILHUBERT)
    assert source["weights"] == {"model.safetensors": files_of(folder)["model.safetensors"]}

    asked = hub.asked.total()
    again = python(place, hub.url, "-m", "stages", "fetch_model", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert json.loads((folder / "source.json").read_text()) == source
    assert hub.asked.total() == asked

    from transformers import AutoModelForAudioClassification

    model, info = AutoModelForAudioClassification.from_pretrained(folder, output_loading_info=True)
    assert model.config.num_hidden_layers == 2
    assert all(key.startswith(("projector", "classifier")) for key in info["missing_keys"])


def words_card(place: Path, name: str, **changes: object) -> str:
    card = {"kind": "parquet", "repo": "someone/words", "revision": WORDS, "config": "small"}
    card |= {"split": ["train", "test"], "label": "word", "group": "speaker"} | changes
    folder = place / "corpora" / name
    folder.mkdir()
    (folder / "corpus.yaml").write_text(yaml.safe_dump(card))
    return f"corpora/{name}"


def test_a_card_of_a_few_lines_reads_a_parquet_dataset(hub, place):
    write_params(place, corpus=words_card(place, "words"))
    done = python(place, hub.url, "-m", "stages", "fetch_data")
    assert done.returncode == 0, done.stderr
    clips = clips_of(place)
    assert len(clips) == 14
    assert clips["train-0"] == clips["train-0"] | {
        "label": "yes",
        "group": "s0",
        "part": "train",
        "path": "data/raw/yes/train-0.flac",
        "sample_rate": "22050",
    }
    assert {row["part"] for row in clips.values()} == {"train", "test"}
    report = json.loads((place / "metrics/data.json").read_text())
    assert [entry["reason"] for entry in report["skipped"]] == ["the row holds no audio bytes"] * 2
    assert not any("other/" in path for path in hub.asked if path.startswith("GET"))

    before = files_of(place / "data")
    done = python(place, hub.url, "-m", "stages", "fetch_data", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert files_of(place / "data") == before


def test_once_fetched_the_rest_runs_without_the_hub(hub, place):
    """DistilHuBERT's shape on the keyword corpus, from a Hub that is then out of reach."""
    write_params(place, corpus=words_card(place, "keywords"))
    params = yaml.safe_load((place / "params.yaml").read_text())
    params["split"] |= {"protocol": "stratified", "folds": 3, "validation": 0.3}
    params["train"] |= {"epochs": 1, "batch_size": 2}
    params["export"] |= {"onnx": False}
    (place / "params.yaml").write_text(yaml.safe_dump(params))
    done = python(place, hub.url, "-c", RUN_STAGES, "fetch_data", "fetch_model")
    assert done.returncode == 0, done.stderr
    asked, rest = hub.asked.total(), ("prepare", "encode", "train", "evaluate", "export")
    done = python(place, hub.url, "-c", RUN_STAGES, *rest, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert hub.asked.total() == asked
    assert json.loads((place / "metrics/test.json").read_text())["clips"] >= 4
    card = (place / "export/README.md").read_text(encoding="utf-8")
    assert "base_model: ntu-spml/distilhubert" in card
    assert f"someone/words at revision `{WORDS}`" in card or WORDS in card


def test_a_parquet_card_that_does_not_fit(hub, place):
    corpora = {
        words_card(place, "column", label="keyword"): ["no column 'keyword'", "speaker"],
        words_card(place, "config", config="large"): ["no configuration 'large'", "small, other"],
        words_card(place, "torn", files="torn/*.parquet"): ["torn/train-0.parquet", "not readable"],
        words_card(place, "revision", revision="6" * 40): ["no revision", "6" * 40],
        words_card(place, "split", split="validation"): ["no parquet file for split 'validation'"],
    }
    done = python(place, hub.url, "-c", GATHER, *corpora)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for corpus, words in corpora.items():
        assert all(word in said[corpus] for word in words), said[corpus]
        assert "\n" not in said[corpus]


def test_a_wrong_checksum_in_the_card_leaves_the_last_good_data(hub, place):
    write_params(place)
    assert python(place, hub.url, "-m", "stages", "fetch_data").returncode == 0
    before = files_of(place / "data")
    write_params(place, corpus="corpora/wrong")
    one_sentence(python(place, hub.url, "-m", "stages", "fetch_data"), "sha256", "marsyas/gtzan")
    assert files_of(place / "data") == before


EXPECTED = {
    "fails/401": "does not accept this token",
    "fails/403": "does not let you read fails/403",
    "fails/404": "no model fails/404",
    "fails/429": "again in 3600 s",
    "fails/429-once": "fetched",
    "fails/500": "HTTP 500",
    "fails/500-once": "fetched",
    "fails/gated": "is gated",
    "fails/hang": "does not answer",
    "fails/cut": "broke off",
    "fails/cut-once": "fetched",
    "fails/wrong": "checksum",
    "fails/not-a-hub": "does not answer as a Hub",
    "someone/nobody": "there is no folder someone/nobody, and the Hub has no model",
    "ntu-spml/distilhubert@branch": "no revision 'branch'",
    "someone/pickled": "model.allow_pickle",
    "someone/torn": "is damaged",
    "someone/text": "sampling_rate",
    "backbones/no/such": "there is no folder backbones/no/such",
}


def test_a_hub_that_fails_ends_in_one_sentence_or_a_good_download(hub, tmp_path):
    assert {f"fails/{how}" for how in FAILURES} <= set(EXPECTED)
    start = time.perf_counter()
    done = python(tmp_path, hub.url, "-c", FETCH_MODELS, *EXPECTED)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for repo, words in EXPECTED.items():
        assert words in said[repo][0], said[repo]
        assert "\n" not in said[repo][0]
    assert time.perf_counter() - start < 60
    fetched = {path.name for path in (tmp_path / "fetched").iterdir()}
    assert fetched == {"fails-429-once", "fails-500-once", "fails-cut-once"}
    assert any(asked != "bytes=0-" for asked in hub.ranges), "a cut download did not resume"


def test_a_hub_that_cannot_be_reached(tmp_path):
    write_params(tmp_path)
    done = python(tmp_path, "http://127.0.0.1:9", "-m", "stages", "fetch_model")
    one_sentence(done, "cannot be reached", "127.0.0.1")
    done = python(tmp_path, "http://127.0.0.1:9", "-m", "stages", "fetch_model", HF_HUB_OFFLINE="1")
    one_sentence(done, "HF_HUB_OFFLINE")
    assert not (tmp_path / "models" / "backbone").exists()


def test_the_token_goes_to_the_hub_and_nowhere_else(hub, place):
    assert ("127.0.0.1", f"Bearer {TOKEN}") in hub.tokens
    assert ("localhost", f"Bearer {TOKEN}") not in hub.tokens  # where large files are redirected
    for path in place.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
