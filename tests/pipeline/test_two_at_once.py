"""Runs at the same time, in two clones or in `--temp`, give the same results as one alone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support import pipeline_repo
from tests.support.pipeline_repo import WORKERS, Clone, hashes, ran

pytestmark = pytest.mark.slow
TO_TRAIN = ["fetch_data", "fetch_model", "prepare", "encode", "train"]
RESUMED = "from checkpoint-"


def locked(clone: Clone, experiment: str | None = None) -> dict[str, str]:
    """The hashes in the workspace's dvc.lock, or in an experiment's."""
    if experiment:
        where = f"refs/exps/*/*/{experiment}"
        commit = clone.git("for-each-ref", "--format=%(objectname)", where).strip()
        return hashes(clone.git("show", f"{commit}:dvc.lock"))
    return hashes((clone.path / "dvc.lock").read_text())


def test_two_clones_that_share_a_cache_and_an_experiment_beside_one(repo, tmp_path):
    """With --no-run-cache and --force, so that none takes another's results instead of running."""
    clones = []
    for name in ("one", "two"):
        made = pipeline_repo.clone(tmp_path / name / "repo")
        made.env = dict(WORKERS)
        made.dvc("cache", "dir", "--local", str(tmp_path / "cache"))
        clones.append(made)
    first, second = clones
    commands = [
        (first, "dvc", "repro", "--no-run-cache", "train"),
        (second, "dvc", "repro", "--no-run-cache", "train"),
        (second, "dvc", "exp", "run", "--temp", "--force", "--name", "beside", "train"),
    ]
    logs = [tmp_path / f"{number}.log" for number in range(len(commands))]
    started = [clone.start(log, *words) for log, (clone, *words) in zip(logs, commands)]
    for log, process in zip(logs, started):
        assert process.wait(500) == 0, log.read_text()
        assert ran(log.read_text()) == TO_TRAIN
    alone = locked(repo)
    for found in (locked(first), locked(second), locked(second, "beside")):
        assert len(found) > 8
        assert found == {path: alone[path] for path in found}


def test_a_checkpoint_is_resumed_where_it_was_made_and_nowhere_else(repo, tmp_path):
    clone, log = repo.copy(tmp_path / "repo"), tmp_path / "log"
    clone.set(train__epochs=8)
    killed_in_training(clone, log, "dvc", "repro", "train")

    # The experiment changes another parameter; its own checkpoint stays in its folder too.
    words = ("dvc", "exp", "run", "--temp", "-S", "train.epochs=9", "train")
    assert RESUMED not in killed_in_training(clone, log, *words)
    assert list(clone.path.glob(".dvc/tmp/exps/standalone/*/.resume/train/*/checkpoint-*"))

    printed = clone.dvc("exp", "run", "--temp", "--name", "same", "train")
    assert ran(printed) == ["train"] and RESUMED not in printed
    printed = clone.dvc("repro", "--no-run-cache", "train")
    assert ran(printed) == ["train"] and RESUMED in printed
    assert locked(clone) == locked(clone, "same") != locked(repo)


def killed_in_training(clone: Clone, log: Path, *command: str) -> str:
    """Kill all processes of a command after a few epochs; return what it had printed."""
    process = clone.start(log, *command)
    deadline = time.monotonic() + 300
    while "epoch   3" not in log.read_text() and time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return log.read_text()
