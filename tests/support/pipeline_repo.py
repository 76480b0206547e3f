"""A clone of this repository with a corpus of tones, on which DVC is run for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from dvc.repo import Repo
from filelock import FileLock

from tests.support.samples import RATE, ROOT, tone

PITCHES = {"low": 110.0, "middle": 440.0, "high": 1760.0}
CORPUS = "tones"
TINY = "tests/support/tiny-ast"  # a small spectrogram transformer without weights
STAGES = ["fetch_data", "fetch_model", "prepare", "encode", "train", "evaluate", "export"]
WORKERS = {"GENREPRO_WORKERS": "2"}
RESULTS = ("dvc.lock", "metrics", "data", "models", "export")  # of another corpus
SMALL = {
    "data.corpus": CORPUS,
    "model.id": "backbones/tiny-ast",
    "split.folds": 3,
    "train.epochs": 2,
    "train.freeze": "nothing",
    "train.device": "cpu",
    "export.onnx": False,
}


@dataclass
class Clone:
    """A working copy: `dvc` and `python` run in it as a person would type them."""

    path: Path
    env: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.path.parent / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(self.path.parent / "global"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "HF_HUB_OFFLINE": "1",
            **self.env,
        }

    def run(self, *command: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command here; unless `ok` is false, a failure shows what it printed."""
        done = subprocess.run(
            command, cwd=self.path, env=self.environment(), capture_output=True, text=True
        )
        assert not ok or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, log: Path, *command: str) -> subprocess.Popen[bytes]:
        """Start a command here, in a process group of its own; what it prints goes to `log`."""
        with log.open("wb") as printed:
            return subprocess.Popen(
                command,
                cwd=self.path,
                env=self.environment(),
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def dvc(self, *words: str, ok: bool = True) -> str:
        """What DVC printed."""
        done = self.run("dvc", *words, ok=ok)
        return done.stdout + done.stderr

    def git(self, *words: str) -> str:
        return self.run("git", *words).stdout

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def set(self, **values: object) -> None:
        """Change params.yaml: set(train__epochs=1), or set(**{"train.epochs": 1})."""
        path = self.path / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for key, value in values.items():
            *sections, last = key.replace("__", ".").split(".")
            target = params
            for section in sections:
                target = target[section]
            target[last] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def changed(self) -> list[str]:
        """The stages that `dvc repro` would run for what changed by itself, not by another's."""
        with Repo(str(self.path)) as repo:  # in this process: the command's import takes a second
            status = {name.rsplit(":", 1)[-1] for name in repo.status()}
        return [stage for stage in STAGES if stage in status]

    def copy(self, target: Path) -> Clone:
        shutil.copytree(self.path, target, symlinks=True)
        return Clone(target, dict(self.env))


def hashes(lock: str, *only: str) -> dict[str, str]:
    """Path -> hash of every output in a dvc.lock, or of some stages."""
    stages = yaml.safe_load(lock)["stages"]
    return {out["path"]: out["md5"] for name in only or stages for out in stages[name]["outs"]}


def ran(output: str) -> list[str]:
    """The stages that `dvc repro` says it ran."""
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


def tones(folder: Path) -> None:
    """Labels by pitch, twelve melodies of a second in each: <label>/<label>.<number>.wav."""
    chance = np.random.default_rng(0)
    for label, pitch in PITCHES.items():
        (folder / label).mkdir(parents=True)
        for number in range(12):
            steps = chance.integers(0, 12, 8)
            notes = [tone(pitch * 2 ** (step / 12), 1 / 8, seed=number) for step in steps]
            wave = np.concatenate(notes)
            soundfile.write(folder / label / f"{label}.{number:02d}.wav", wave, RATE)


def working_copy(target: Path) -> Clone:
    """A new repository with this working copy's files, without results, and one commit."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if name.split("/")[0] not in RESULTS and source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)
    made = Clone(target)
    made.git("init", "--quiet", "--initial-branch", "main")
    made.git("config", "user.name", "A. Tester")
    made.git("config", "user.email", "tester@example.org")
    made.commit("The repository")
    return made


def clone(target: Path, **params: object) -> Clone:
    """A working copy with a corpus of tones and small parameters, committed."""
    made = working_copy(target)
    tones(target / CORPUS)
    shutil.copytree(ROOT / TINY, target / "backbones/tiny-ast")
    made.set(**SMALL | params)
    made.commit("Tones")
    return made


def reproduced(factory: pytest.TempPathFactory) -> Clone:
    """A clone after `dvc repro`, with its results committed: made once for all test processes.

    Only to read from; a test that changes it takes a `copy`.
    """
    home = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        home = home.parent  # which holds the folders of all processes
    home = home / "reproduced"
    with FileLock(f"{home}.lock"):
        done = Clone(home / "repo", WORKERS)
        if not (home / "log").exists():
            made = clone(done.path)
            made.env = WORKERS
            printed = made.dvc("repro")
            made.commit("The results of dvc repro")
            (home / "log").write_text(printed)
        return done
