"""A download whose process is killed goes on where it stopped, and damage starts it over."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE
from safetensors.numpy import save

from tests.support.hub_contents import model_files
from tests.support.hub_place import TOKEN, environment, one_sentence, python, write_params
from tests.support.loopback_hub import LoopbackHub

REPO, COMMIT = "someone/large", "d" * 40
STARTED = 2 * DOWNLOAD_CHUNK_SIZE  # bytes on the disk when the process is killed
FETCH = f"""
from genrepro import hub
from genrepro.runtime import run
run(lambda: print(hub.fetch_matching({REPO!r}, ["*.safetensors"], {COMMIT!r}, "model")))
"""


@pytest.fixture(scope="module")
def weights() -> bytes:
    noise = np.random.default_rng(0).random(4 * DOWNLOAD_CHUNK_SIZE // 8)
    return save({"x": noise})


@pytest.fixture
def hub(weights):
    hub = LoopbackHub()
    hub.add("models", REPO, model_files(weights), COMMIT)
    hub.xet.add(REPO)
    yield hub
    hub.close()


def part_of(place: Path, weights: bytes) -> Path:
    digest = hashlib.sha256(weights).hexdigest()
    return place / "hf/hub/models--someone--large/blobs" / f"{digest}.part"


def test_a_killed_download_goes_on_where_it_stopped(hub, weights, tmp_path):
    write_params(tmp_path, model=REPO)
    hub.hold_after = STARTED + DOWNLOAD_CHUNK_SIZE // 2
    part = part_of(tmp_path, weights)
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.fetch_model"],
        cwd=tmp_path,
        env=environment(tmp_path, hub.url, HF_HUB_DOWNLOAD_TIMEOUT="60"),
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None and not (part.exists() and part.stat().st_size >= STARTED):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    stopped = part.stat().st_size
    assert hub.ranges == []

    hub.hold_after = None
    done = python(tmp_path, hub.url, "-m", "stages.fetch_model")
    assert done.returncode == 0, done.stderr
    assert hub.ranges == [f"bytes={stopped}-"]
    assert stopped >= STARTED and hub.sent <= len(weights) + DOWNLOAD_CHUNK_SIZE
    source = json.loads((tmp_path / "models/backbone/source.json").read_text())
    assert source["weights"] == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    assert (tmp_path / "models/backbone/model.safetensors").read_bytes() == weights
    assert not list(tmp_path.rglob("*.part"))
    assert ("127.0.0.1", f"Bearer {TOKEN}") in hub.tokens
    assert ("localhost", f"Bearer {TOKEN}") not in hub.tokens  # where the storage is


@pytest.mark.parametrize(
    ("left", "ranges"),
    [
        (lambda weights: bytes(STARTED), [f"bytes={STARTED}-"]),
        (lambda weights: bytes(len(weights)), []),
        (lambda weights: bytes(len(weights) + 1), []),
    ],
    ids=["damaged", "damaged-to-its-end", "too-long"],
)
def test_what_a_killed_download_left_damaged_is_started_over(hub, weights, tmp_path, left, ranges):
    part = part_of(tmp_path, weights)
    part.parent.mkdir(parents=True)
    part.write_bytes(left(weights))
    done = python(tmp_path, hub.url, "-c", FETCH)
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / "model.safetensors").read_bytes() == weights
    assert hub.ranges == ranges
    assert hub.asked[f"GET /cdn/{part.stem}-{REPO}"] == 1 + len(ranges)
    assert not part.exists()


def test_bytes_that_are_wrong_from_the_start_are_refused_and_not_kept(hub, weights, tmp_path):
    hub.add("models", "fails/wrong", model_files(weights), COMMIT)
    write_params(tmp_path, model="fails/wrong")
    done = python(tmp_path, hub.url, "-m", "stages.fetch_model")
    one_sentence(done, "model.safetensors of fails/wrong", "checksum")
    blobs = [path for path in tmp_path.rglob("blobs/*") if path.stat().st_size > len(weights) // 2]
    assert blobs == [] and not (tmp_path / "models/backbone").exists()
