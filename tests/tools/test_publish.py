"""tools.publish with the real huggingface_hub against a Hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCardData

from tests.support.fake_package import FAKE, FAKE_PACKAGE
from tests.support.loopback_publish import READ_ONLY, TOKEN, LoopbackPublish
from tests.support.samples import ROOT
from tools import page, results
from tools import publish as tool

REPO = "ada/distilhubert-finetuned-gtzan"
CURVES = "metrics/train/plots/metrics"
MADE = {
    "export/config.json": b'{"model_type": "hubert"}',
    "export/preprocessor_config.json": b"{}",
    "export/model.safetensors": bytes(range(256)) * 500,
    "export/onnx/model.onnx": b"onnx" * 5000,
    "export/clip.wav": b"RIFF",  # nothing writes audio there; if it did, it would not be sent
    "metrics/labels.json": b"{}",
    "metrics/plots/confusion.csv": b"label,predicted\n",
    "data/predictions.csv": b"clip,label,predicted\na,blues,rock\nb,rock,rock\n",
    "metrics/plots/mistakes.csv": b"clip,path,label,predicted,probability\n",
    f"{CURVES}/train/loss.tsv": b"step\tloss\n1\t2.1\n",
    f"{CURVES}/validation/accuracy.tsv": b"step\taccuracy\n1\t0.5\n",
    "data/raw/rock/rock.00000.wav": b"RIFF",
}
SENT = {
    "config.json": "export/config.json",
    "preprocessor_config.json": "export/preprocessor_config.json",
    "model.safetensors": "export/model.safetensors",
    "onnx/model.onnx": "export/onnx/model.onnx",
    "metrics/test.json": "metrics/test.json",
    "metrics/labels.json": "metrics/labels.json",
    "metrics/plots/confusion.csv": "metrics/plots/confusion.csv",
    "curves/train/loss.tsv": f"{CURVES}/train/loss.tsv",
    "curves/validation/accuracy.tsv": f"{CURVES}/validation/accuracy.tsv",
}


@pytest.fixture
def hub():
    server = LoopbackPublish()
    yield server
    server.close()


@pytest.fixture
def run_folder(tmp_path) -> Path:
    return make(tmp_path / "repo", "marsyas/gtzan")


def make(folder: Path, dataset: str) -> Path:
    """What `dvc repro` leaves behind, as far as publishing reads it."""
    for name, content in MADE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "metrics/data.json").write_text(json.dumps({"corpus": {"name": dataset}}))
    (folder / "metrics/test.json").write_text(json.dumps({"accuracy": 0.83, "loss": 0.6}))
    data = ModelCardData(model_name="m", tags=["audio-classification"])
    rows = "| accuracy | 0.8300 |\n| loss (cross-entropy) | 0.6000 |"
    text = (
        f"---\n{data.to_yaml()}\n---\n\n# A model\n\nMade with genrepro, a\n{rows}\n## By label\n"
    )
    (folder / "export/README.md").write_text(text)
    return folder


@pytest.fixture
def publish(hub, run_folder):
    """Run `python -m tools.publish` as a person does; its exit code and what it printed."""

    def call(
        *words: str,
        token: str = TOKEN,
        folder: Path = run_folder,
        program: tuple[str, ...] = ("-m", "tools.publish"),
        **env: str,
    ):
        environment = {name: v for name, v in os.environ.items() if not name.startswith("HF_")}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder.parent / "hf"),
            "HF_HUB_DISABLE_XET": "1",  # a Hub without Xet: plain Git LFS
            "HF_TOKEN": token,
        } | env
        done = subprocess.run(
            [sys.executable, *program, *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert token not in done.stdout + done.stderr or not token
        return done

    return call


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a failure."""
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "|" not in line]  # but for bars of progress
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    return errors[0]


def test_the_listed_files_are_sent_byte_for_byte_and_no_audio(hub, run_folder, publish):
    done = publish(REPO, "--yes")
    assert done.returncode == 0, done.stderr
    assert f"published: {hub.url}/{REPO}" in done.stdout
    sent = {name: data for name, data in hub.files[REPO].items() if name != ".gitattributes"}
    card = sent.pop("README.md").decode()
    assert card == tool.published((run_folder / "export/README.md").read_text(), None)
    assert sent.pop("confusion.png").startswith(b"\x89PNG")
    assert sent == {name: (run_folder / path).read_bytes() for name, path in SENT.items()}
    assert hub.private[REPO]
    assert hub.cards == [card]
    assert hub.asked["upload"] == 2  # the weights and the ONNX, as large files
    for name in ("README.md", "confusion.png", *SENT):
        assert name in done.stdout
    assert "The card names no commit" in done.stdout
    assert "The card says nothing on robustness: metrics/robustness.json does not" in done.stdout
    assert "no audio" in done.stdout


def test_the_card_has_the_robustness_of_this_model_and_of_no_other(run_folder, monkeypatch):
    monkeypatch.chdir(run_folder)
    clean = {"accuracy": 0.8, "interval": {"low": 0.7, "high": 0.9}}
    noise = clean | {"difference": -0.03, "difference_interval": {"low": -0.1, "high": 0.04}}
    noise |= {"lost": 4, "gained": 1}
    found = {"of": results.measured_on(), "confidence": 0.95, "clean": clean}
    Path("metrics/robustness.json").write_text(json.dumps(found | {"degraded": {"noise": noise}}))
    section, remark = tool._robustness()
    assert remark == "The card has a section on robustness."
    card = (ROOT / "genrepro/export/card.md.jinja").read_text()
    sent = tool.published(card, None, section)
    assert sent.index("## By label") < sent.index("## Robustness") < sent.index("## Split")
    row = "| noise | 0.800 | 0.700 to 0.900 | -3.0 | -10.0 to +4.0 | 4 | 1 |"
    assert f"{row}\n\n## Split\n" in sent
    Path("export/model.safetensors").write_bytes(b"another")
    section, remark = tool._robustness()
    assert section == "" and "is of another run: type `python -m tools.robustness`" in remark


def test_large_files_go_by_xet_where_the_hub_has_it(hub, run_folder, publish, tmp_path):
    hub.xet = tmp_path / "xet"
    hub.xet.mkdir()
    done = publish(REPO, "--yes", HF_HUB_DISABLE_XET="0")
    assert done.returncode == 0, done.stderr
    weights = (run_folder / "export/model.safetensors").read_bytes()
    assert hub.files[REPO]["model.safetensors"].decode() == hashlib.sha256(weights).hexdigest()
    assert any(path.is_file() for path in (hub.xet / "xet/xorbs").rglob("*"))


def test_a_xet_that_fails_is_one_sentence(hub, publish):
    assert "run the same command again" in sentence(publish(REPO, "--yes", HF_HUB_DISABLE_XET="0"))
    assert set(hub.files[REPO]) == {".gitattributes"}


def test_public_has_to_be_asked_for(hub, publish):
    done = publish(REPO, "--yes", "--public")
    assert "PUBLIC" in done.stdout
    assert not hub.private[REPO]


def test_nothing_is_sent_without_somebody_to_ask(hub, publish):
    done = publish(REPO)
    assert "add --yes" in sentence(done)
    assert "model.safetensors" in done.stdout
    assert not hub.files


def test_a_model_of_the_demo_needs_its_own_option(hub, publish, tmp_path):
    demo = make(tmp_path / "demo", "demo")
    assert "--demo-too" in sentence(publish(REPO, "--yes", folder=demo))
    assert "add --yes" in sentence(publish(REPO, "--demo-too", folder=demo))
    assert not hub.files
    assert publish(REPO, "--yes", "--demo-too", folder=demo).returncode == 0
    assert REPO in hub.files


@pytest.mark.parametrize(
    ("token", "repo", "said"),
    [
        ("", REPO, "there is no token for the Hub: type `hf auth login`"),
        ("hf_wrong", REPO, "does not accept this token (HTTP 401)"),
        (READ_ONLY, REPO, "does not let you write to"),
        (TOKEN, "somebody/model", "does not let you write to somebody/model (HTTP 403)"),
        (TOKEN, "model", "must look like you/"),
        (TOKEN, "ada/a b", "must look like you/"),
    ],
)
def test_a_refusal_is_one_sentence_and_leaves_nothing_there(hub, publish, token, repo, said):
    assert said in sentence(publish(repo, "--yes", token=token))
    assert not hub.files and not hub.blobs


@pytest.mark.parametrize("step", ["whoami", "create", "validate", "commit"])
def test_a_cut_connection_is_one_sentence_and_a_second_try_completes(hub, publish, step):
    hub.cut[step] = 1
    assert "run the same command again" in sentence(publish(REPO, "--yes"))
    assert set(hub.files.get(REPO, {})) <= {".gitattributes"}
    assert publish(REPO, "--yes").returncode == 0
    assert set(SENT) <= set(hub.files[REPO])


def test_an_interrupted_upload_is_retried(hub, publish):
    hub.cut["upload"] = 1
    assert publish(REPO, "--yes").returncode == 0
    assert hub.asked["upload"] == 3


@pytest.mark.slow
def test_a_hub_that_hangs_is_one_sentence(publish):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = publish(REPO, "--yes", HF_ENDPOINT=endpoint, HF_HUB_ETAG_TIMEOUT="1")
    assert "does not answer" in sentence(done)


def test_a_hub_that_is_not_there_is_one_sentence(hub, publish):
    said = sentence(publish(REPO, "--yes", HF_ENDPOINT="http://ada:pw@127.0.0.1:9"))
    assert "the Hub at http://127.0.0.1:9 cannot be reached" in said
    assert "HF_HUB_OFFLINE" in sentence(publish(REPO, "--yes", HF_HUB_OFFLINE="1"))


def test_a_model_is_replaced_only_with_replace(hub, run_folder, publish):
    hub.files[REPO] = {".gitattributes": b"", "README.md": b"old", "pytorch_model.bin": b"old"}
    hub.private[REPO] = True
    assert "holds 2 files" in sentence(publish(REPO, "--yes"))
    assert hub.files[REPO]["README.md"] == b"old"
    done = publish(REPO, "--yes", "--replace")
    assert "Removed there, but kept in its history: pytorch_model.bin" in done.stdout
    assert set(hub.files[REPO]) == {".gitattributes", "README.md", "confusion.png", *SENT}


def test_a_public_repository_is_not_mistaken_for_a_private_one(hub, publish):
    hub.files[REPO], hub.private[REPO] = {".gitattributes": b""}, False
    assert "everyone can see it" in sentence(publish(REPO, "--yes"))
    assert publish(REPO, "--yes", "--public").returncode == 0


def test_an_unfinished_run_cannot_be_published(run_folder, publish):
    (run_folder / "metrics/test.json").write_text(json.dumps({"accuracy": 0.5, "loss": 0.6}))
    assert "come from different runs" in sentence(publish(REPO, "--yes"))
    (run_folder / "export/model.safetensors").unlink()
    assert "weights is missing" in sentence(publish(REPO, "--yes"))
    shutil.rmtree(run_folder / "export")
    assert "README.md is missing" in sentence(publish(REPO, "--yes"))


# tools.publish with a package of two small files in the place of onnxruntime-web.
SMALL_PACKAGE = """
from tools import page, publish
page.PACKAGE = {PACKAGE}
publish.run(publish.main)
"""


@pytest.fixture
def publish_page(run_folder, publish):
    """Run `python -m tools.publish --space`, where the page can be built."""
    write_page_results(run_folder)
    cached = run_folder.parent / f"cache/genrepro/onnxruntime-web-{page.VERSION}"
    cached.mkdir(parents=True)
    for member, (name, _) in FAKE_PACKAGE.items():
        (cached / name).write_bytes(FAKE[member])
    program = ("-c", SMALL_PACKAGE.replace("{PACKAGE}", repr(FAKE_PACKAGE)))
    home = str(run_folder.parent / "cache")

    def call(*words: str):
        return publish("--space", *words, program=program, XDG_CACHE_HOME=home)

    return call


def write_page_results(folder: Path) -> None:
    """What the page needs besides: labels, a feature extractor, an interval."""
    (folder / "export/config.json").write_text(
        json.dumps({"id2label": {"0": "blues", "1": "rock"}})
    )
    settings = {"feature_extractor_type": "Wav2Vec2FeatureExtractor"}
    (folder / "export/preprocessor_config.json").write_text(json.dumps(settings))
    (folder / "metrics/plots").mkdir(exist_ok=True)
    (folder / "metrics/plots/accuracy.csv").write_text(
        "accuracy,low,high,clips,confidence\n0.83,0.745,0.891,100,0.95\n"
    )
    corpus = {"corpus": {"name": "marsyas/gtzan", "title": "GTZAN"}}
    (folder / "metrics/data.json").write_text(json.dumps(corpus))


def test_a_space_holds_the_page_and_links_to_the_model(hub, run_folder, publish_page):
    hub.files[REPO], hub.private[REPO] = {"README.md": b"the model's"}, True
    done = publish_page(REPO, "--yes")
    assert done.returncode == 0, done.stderr
    assert f"published: {hub.url}/spaces/{REPO}" in done.stdout and "private" in done.stdout
    held = hub.files[f"spaces/{REPO}"]
    assert {"index.html", "page.js", "settings.json", "onnxruntime/ort.wasm"} < set(held)
    assert held["model.onnx"] == MADE["export/onnx/model.onnx"]
    assert hub.cards == [held["README.md"].decode()]
    assert f"models:\n- {REPO}\n" in hub.cards[0] and "sdk: static" in hub.cards[0]
    assert f"https://huggingface.co/{REPO}" in held["settings.json"].decode()
    assert hub.files[REPO] == {"README.md": b"the model's"}
    held["old.js"] = b""
    assert "Removed there, but kept in its history: old.js" in (
        publish_page(REPO, "--yes", "--replace").stdout
    )
    assert "old.js" not in hub.files[f"spaces/{REPO}"]


def test_a_space_needs_a_model_that_its_visitors_can_open(hub, publish_page):
    assert f"type `python -m tools.publish {REPO}` first" in sentence(publish_page(REPO, "--yes"))
    hub.files[REPO], hub.private[REPO] = {".gitattributes": b""}, True
    assert "but not the model" in sentence(publish_page(REPO, "--yes", "--public"))
    assert "add --yes" in sentence(publish_page(REPO))
    assert set(hub.files) == {REPO}


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("https://github.com/ada/genrepro.git", "https://github.com/ada/genrepro"),
        ("https://ada:secret@git.example.org:8443/a/b/", "https://git.example.org:8443/a/b"),
        ("git@github.com:ada/genrepro.git", "https://github.com/ada/genrepro"),
        ("ssh://git@git.example.org:2222/ada/genrepro", "https://git.example.org/ada/genrepro"),
        ("/home/ada/genrepro.git", None),
        ("../genrepro", None),
        ("file:///home/ada/genrepro", None),
        ("git@server:genrepro", None),
        ("https://ada:p@ss@github.com/ada/genrepro", None),
        ("", None),
    ],
)
def test_the_page_of_a_remote_has_neither_user_nor_token(address, page):
    assert tool.page_of(address) == page


def test_a_commit_is_named_only_if_it_is_clean_and_pushed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tool.pushed_commit() is None  # no repository

    def git(*words: str) -> str:
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        return subprocess.run(
            ["git", *who, *words], check=True, capture_output=True, text=True
        ).stdout

    git("init", "--quiet")
    Path("a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "-m", "A")
    assert tool.pushed_commit() is None  # no remote
    git("remote", "add", "origin", "https://ada:secret@git.example.org/ada/genrepro.git")
    assert tool.pushed_commit() is None  # not pushed
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    commit = git("rev-parse", "HEAD").strip()
    assert tool.pushed_commit() == ("https://git.example.org/ada/genrepro", commit)
    Path("a").write_text("2")
    assert tool.pushed_commit() is None  # not clean
