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

from tests.support.hub_contents import (
    CLOSED,
    DISTILHUBERT,
    WORDS,
    fill,
    gtzan_tarball,
    pickled_weights,
)
from tests.support.hub_place import ROOT, TOKEN, files_of, one_sentence, python, write_params
from tests.support.loopback_hub import FAILURES, OWNER, LoopbackHub

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
            gather.gather(Data(corpus=name, facts=None, name_pattern=None, corrections=None), raw)
        said[name] = "gathered"
    except PipelineError as error:
        said[name] = str(error)
assert "torch" not in sys.modules
print(json.dumps(said))
"""

# Fetches what a JSON list of [function of the client, its arguments] asks, and prints each result.
ASK = """
import json, sys
from genrepro.core.errors import PipelineError
from genrepro.hub import client

answers = []
for function, *arguments in json.loads(sys.argv[1]):
    try:
        answers.append(str(getattr(client, function)(*arguments)))
    except PipelineError as error:
        answers.append(f"{type(error).__name__}: {error}")
print(json.dumps(answers))
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
    shutil.copy(ROOT / "dvc.yaml", place)  # it declares what unfinished work depends on
    for room in ("genrepro", "stages"):
        (place / room).symlink_to(ROOT / room)
    (place / "backbones").mkdir()
    shutil.copy(ROOT / "backbones" / "revisions.yaml", place / "backbones")
    card = yaml.safe_load((place / "corpora/gtzan/corpus.yaml").read_text())
    card["sha256"] = hashlib.sha256(gtzan_tarball()).hexdigest()
    (place / "corpora/gtzan/corpus.yaml").write_text(yaml.safe_dump(card))
    return place


def clips_of(place: Path) -> dict[str, dict[str, str]]:
    with (place / "data/clips.csv").open(encoding="utf-8", newline="") as file:
        return {row["clip"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
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
    assert "damaged" in skipped["genres/jazz/jazz.00054.wav"]

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


@pytest.mark.slow
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


@pytest.mark.slow
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
        words_card(place, "split", split="validation"): [
            "lacks a parquet file for split 'validation'"
        ],
    }
    done = python(place, hub.url, "-c", GATHER, *corpora)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    for corpus, words in corpora.items():
        assert all(word in said[corpus] for word in words), said[corpus]
        assert "\n" not in said[corpus]


@pytest.mark.slow
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


@pytest.mark.slow
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


def ask(place: Path, endpoint: str, *calls: list[object], **env: str) -> list[str]:
    """The results of calls to the client, made one after another in a process of their own."""
    done = python(place, endpoint, "-c", ASK, json.dumps(calls), **env)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert not any("\n" in answer for answer in answers)
    return answers


CLOSED_CALLS = [
    ["fetch", "someone/private", "config.json", CLOSED, "model"],
    ["fetch", "someone/gated", "config.json", None, "model"],
    ["fetch_matching", "someone/private", ["small/*"], CLOSED, "dataset"],
    ["fetch_matching", "someone/gated", ["small/*"], CLOSED, "dataset"],
    ["fetch", "someone/private", "model.safetensors", CLOSED, "model"],
]


@pytest.mark.slow
def test_private_and_gated_repositories_need_a_token_and_then_only_the_cache(hub, tmp_path):
    refused = ask(tmp_path, hub.url, *CLOSED_CALLS)
    assert "no model someone/private, or shows it to its owner only" in refused[0]
    assert "no dataset someone/private, or shows it to its owner only" in refused[2]
    for answer in (refused[1], refused[3]):
        assert "someone/gated is gated" in answer
    offline = ask(tmp_path, hub.url, *CLOSED_CALLS, HF_HUB_OFFLINE="1")
    assert all("HF_HUB_OFFLINE is set: unset it" in answer for answer in offline)
    nowhere = ask(tmp_path, "http://127.0.0.1:9", *CLOSED_CALLS[1:4:2])
    assert all("cannot be reached" in answer for answer in nowhere)

    fetched = ask(tmp_path, hub.url, *CLOSED_CALLS, HF_TOKEN=OWNER)
    assert all(CLOSED in answer for answer in fetched)
    assert fetched[4].startswith("MissingFile")
    files = sorted(path.name for path in Path(fetched[2]).rglob("*.parquet"))
    assert files == ["test-00000-of-00001.parquet", "train-00000-of-00001.parquet"]
    assert ask(tmp_path, hub.url, *CLOSED_CALLS) == fetched
    assert ask(tmp_path, "http://127.0.0.1:9", *CLOSED_CALLS) == fetched
    asked = hub.asked.total()
    assert ask(tmp_path, hub.url, *CLOSED_CALLS, HF_HUB_OFFLINE="1") == fetched
    assert hub.asked.total() == asked


def test_half_a_data_set_in_the_cache_is_not_taken_for_all_of_it_offline(hub, tmp_path):
    one = ["fetch_matching", "someone/words", ["small/train*"], WORDS, "dataset"]
    both = ["fetch_matching", "someone/words", ["small/*"], WORDS, "dataset"]
    readme = ["fetch", "someone/words", "README.md", WORDS, "dataset"]
    assert WORDS in ask(tmp_path, hub.url, readme)[0]
    assert "HF_HUB_OFFLINE" in ask(tmp_path, hub.url, one, HF_HUB_OFFLINE="1")[0]
    assert WORDS in ask(tmp_path, hub.url, one)[0]
    whole, half = ask(tmp_path, hub.url, one, both, HF_HUB_OFFLINE="1")
    assert WORDS in whole and "HF_HUB_OFFLINE" in half


@pytest.mark.slow
def test_a_pickled_model_works_offline_once_it_is_in_the_cache(hub, tmp_path):
    write_params(tmp_path, model="someone/pickled")
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("allow_pickle: false", "allow_pickle: true"))
    torch_file = {"pytorch_model.bin": pickled_weights()}
    commit, files = hub.repos["models", "someone/pickled"]
    hub.add("models", "someone/pickled", files | torch_file, commit)
    assert python(tmp_path, hub.url, "-m", "stages", "fetch_model").returncode == 0
    before = files_of(tmp_path / "models")
    done = python(tmp_path, hub.url, "-m", "stages", "fetch_model", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "models") == before


def test_a_xet_store_that_cannot_be_reached_is_one_sentence(hub, tmp_path):
    write_params(tmp_path, model="someone/xet")
    quick = {"HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "1", "HF_XET_CLIENT_RETRY_BASE_DELAY": "1ms"}
    done = python(tmp_path, hub.url, "-m", "stages", "fetch_model", **quick)
    one_sentence(done, "the transfer of model.safetensors failed", "HF_HUB_DISABLE_XET=1")
    env = quick | {"HF_HUB_DISABLE_XET": "1"}
    assert python(tmp_path, hub.url, "-m", "stages", "fetch_model", **env).returncode == 0


def test_a_damaged_file_is_removed_also_from_the_store_that_blobs_share(hub, tmp_path):
    call = ["fetch", "ntu-spml/distilhubert", "config.json", DISTILHUBERT, "model"]
    path = Path(ask(tmp_path, hub.url, call)[0])
    whole, blob = path.read_bytes(), path.parent / path.readlink()
    shared = tmp_path / "hf/hub/blobs/ab" / ("ab" * 32)  # where hf_xet's downloads are
    shared.parent.mkdir(parents=True)
    shared.write_bytes(whole[::-1])
    blob.unlink()
    blob.symlink_to(shared)
    assert "does not have the checksum" in ask(tmp_path, hub.url, call)[0]
    assert not shared.exists() and not blob.is_symlink() and not path.is_symlink()
    assert Path(ask(tmp_path, hub.url, call)[0]).read_bytes() == whole


@pytest.mark.slow
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
