"""Small real things to test with: a corpus of tones, tiny backbones with weights, params.yaml."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs a Hub starts its own
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, a core each

from pathlib import Path

import pytest
import soundfile
import yaml

from tests.support.samples import RATE, ROOT, tone

LONG = ("ecosystem", "launcher", "pipeline", "two_at_once", "hub", "read_only", "torture")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, so that both workers end at about the same time.

    What needs `repo` is slow: somebody has to make it.
    """
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONG)
    for item in items:
        if "repo" in item.fixturenames:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def in_tmp(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tone_corpus(tmp_path_factory) -> Path:
    """Three labels by pitch, twelve clips each of 1 s: <label>/<clip>.wav."""
    folder = tmp_path_factory.mktemp("corpus")
    for label, frequency in (("low", 220.0), ("middle", 880.0), ("high", 3520.0)):
        (folder / label).mkdir()
        for number in range(12):
            wave = tone(frequency * (1 + number / 50), 1.0, seed=number)
            soundfile.write(folder / label / f"{label}.{number:02d}.wav", wave, RATE)
    return folder


@pytest.fixture(scope="session")
def repo(tmp_path_factory):
    """A clone after `dvc repro`, one for all tests. To change it, take a `copy`."""
    from tests.support import pipeline_repo  # imports DVC, and this file

    return pipeline_repo.reproduced(tmp_path_factory)


@pytest.fixture(scope="session")
def params_yaml() -> dict:
    return yaml.safe_load((ROOT / "params.yaml").read_text())
