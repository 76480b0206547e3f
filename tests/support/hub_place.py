"""A folder in which stages run, in processes of their own, against a Hub at another address."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.samples import ROOT

TOKEN = "hf_PlantedInTheEnvironment"


def environment(place: Path, endpoint: str, **more: str) -> dict[str, str]:
    """Variables with the Hub at `endpoint`, its own cache, short timeouts and a planted token."""
    given = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(place / "hf"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
        "HF_TOKEN": TOKEN,
        "PYTHONPATH": str(ROOT),
        "GENREPRO_WORKERS": "1",
    }
    return os.environ | given | more


def python(place: Path, endpoint: str, *arguments: str, **more: str):
    """Run Python in `place` to its end."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        env=environment(place, endpoint, **more),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert TOKEN not in done.stdout + done.stderr
    return done


def write_params(place: Path, corpus: str = "corpora/gtzan", model: str = "ntu-spml/distilhubert"):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"]["corpus"], params["model"]["id"] = corpus, model
    (place / "params.yaml").write_text(yaml.safe_dump(params))


def files_of(folder: Path) -> dict[str, str]:
    """Every file's SHA-256, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def one_sentence(done, *words: str) -> None:
    assert done.returncode == 1, done
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
