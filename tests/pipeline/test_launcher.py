"""Two processes under torchrun train and encode as one process does, and fail with one error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from accelerate.data_loader import BatchSamplerShard
from safetensors.torch import load_file
from torch.utils.data import BatchSampler

from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.training import fine_tune
from genrepro.training.data import IGNORED, Draw, Segments, Shuffled
from tests.support.pipeline_repo import Clone, ran
from tests.support.samples import ROOT

TWO = "torchrun --nproc-per-node 2"
EPOCHS = 10
TRAIN = load(ROOT / "params.yaml").train


@pytest.fixture(scope="module")
def alone(repo, tmp_path_factory) -> Clone:
    """A clone whose model one process has trained, with a batch of the whole recipe."""
    clone = repo.copy(tmp_path_factory.mktemp("one") / "repo")
    clone.set(train__epochs=EPOCHS)
    clone.run("python", "-m", "stages", "train")
    return clone


@pytest.fixture(scope="module")
def shared(alone, tmp_path_factory) -> Clone:
    """The same, trained by two processes that `dvc repro` started."""
    clone = alone.copy(tmp_path_factory.mktemp("two") / "repo")
    clone.set(train__batch_size=4, train__launcher=TWO)
    assert ran(clone.dvc("repro", "--single-item", "train")) == ["train"]
    return clone


def figures(clone: Clone) -> dict:
    return yaml.safe_load((clone.path / "metrics/validation.json").read_text())


def weights(clone: Clone) -> torch.Tensor:
    tensors = load_file(clone.path / "models/finetuned/model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def curves(clone: Clone) -> dict[str, str]:
    folder = clone.path / "metrics/train"
    return {
        str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.tsv"))
    }


@pytest.mark.slow
def test_two_processes_train_the_model_that_one_does(alone, shared):
    one, two = figures(alone), figures(shared)
    assert (two["accuracy"], two["epoch"]) == (one["accuracy"], one["epoch"])
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-3)
    assert torch.allclose(weights(shared), weights(alone), atol=1e-3)
    for name, curve in curves(alone).items():
        theirs = np.genfromtxt(curves(shared)[name].splitlines(), skip_header=1)
        ours = np.genfromtxt(curve.splitlines(), skip_header=1)
        assert np.allclose(theirs, ours, atol=1e-3), name
    assert not list((shared.path / ".resume/train").iterdir())


@pytest.mark.slow
def test_two_processes_that_were_interrupted_and_killed_resume_to_the_same_bytes(shared, tmp_path):
    clone = shared.copy(tmp_path / "repo")
    stopped = train_until("epoch   2", clone, lambda pid: os.kill(pid, signal.SIGTERM))
    assert stopped.count("SIGTERM received; a checkpoint") == 1
    killed = train_until("epoch   5", clone, lambda pid: os.kill(children(pid)[1], signal.SIGKILL))
    assert "resuming from checkpoint-" in killed and "error: " not in killed
    assert "resuming from checkpoint-" in clone.run(*TWO.split(), "-m", "stages", "train").stdout
    assert torch.equal(weights(clone), weights(shared))
    assert figures(clone) == figures(shared)
    assert curves(clone) == curves(shared)


def train_until(words: str, clone: Clone, stop: Callable[[int], None]) -> str:
    """Train under the launcher, call `stop` with its process id once `words` are said."""
    log = clone.path.parent / "log"
    with log.open("w") as file:
        launcher = subprocess.Popen(
            [*TWO.split(), "-m", "stages", "train"],
            cwd=clone.path,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    wait_for(log, words)
    stop(launcher.pid)
    assert launcher.wait(120) != 0
    return log.read_text()


def wait_for(log: Path, words: str) -> None:
    deadline = time.monotonic() + 300
    while words not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def children(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True)
    return sorted(int(number) for number in listed.stdout.split())


@pytest.mark.slow
def test_two_processes_encode_the_bytes_that_one_does(alone, tmp_path):
    clone = alone.copy(tmp_path / "repo")
    clone.set(encode__launcher=TWO)
    before = encoded(clone)
    assert len(before) == 5  # two shards, so that each process has one
    assert ran(clone.dvc("repro", "--single-item", "encode")) == ["encode"]
    assert encoded(clone) == before


def encoded(clone: Clone) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (clone.path / "data/encoded").iterdir()}


FAILS_ON = """
import sys
from genrepro.core import distributed, errors, processes, stage
stage.RANK_0_FIRST = 5.0

def main():
    distributed.barrier("start")
    if str(processes.rank()) in sys.argv[1]:
        raise errors.PipelineError("this is broken: fix it.")
    distributed.barrier("never")

stage.run(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("which", ["0", "1", "01"])
def test_whichever_process_fails_all_end_with_one_error(tmp_path, which):
    script = tmp_path / "fails.py"
    script.write_text(FAILS_ON)
    done = Clone(ROOT, {"PYTHONPATH": str(ROOT)}).run(*TWO.split(), str(script), which, ok=False)
    assert done.returncode != 0
    assert done.stderr.count("error: ") == done.stderr.count("error: this is broken: fix it.") == 1


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_reported_once_and_before_any_work(alone, tmp_path):
    clone = alone.copy(tmp_path / "repo")
    done = clone.run(*TWO.split(), "-m", "stages", "train", ok=False)
    assert done.returncode != 0 and "clips:" not in done.stdout
    assert done.stderr.count("error: ") == 1
    assert "set train.batch_size=4" in done.stderr
    assert figures(clone) == figures(alone)


@pytest.mark.parametrize(
    ("batch", "effective", "processes", "steps"),
    [(8, 8, 1, 1), (1, 8, 8, 1), (2, 32, 4, 4), (8, 64, 2, 4)],
)
def test_batches_make_up_the_effective_batch(batch, effective, processes, steps):
    recipe = TRAIN.model_copy(update={"batch_size": batch, "effective_batch_size": effective})
    assert fine_tune.accumulation_steps(recipe, processes) == steps


@pytest.mark.parametrize(
    ("batch", "processes", "advice"),
    [(8, 8, "set train.batch_size=1"), (8, 2, "set train.batch_size=4"), (1, 3, "that divides 8")],
)
def test_the_error_says_what_to_set_instead(batch, processes, advice):
    recipe = TRAIN.model_copy(update={"batch_size": batch})
    with pytest.raises(PipelineError, match=advice):
        fine_tune.accumulation_steps(recipe, processes)


@pytest.mark.parametrize("size", [1, 7, 8, 16, 21, 24])
@pytest.mark.parametrize(("batch", "processes"), [(4, 2), (2, 2), (1, 8), (2, 4)])
def test_a_step_takes_the_segments_that_one_process_would_take(size, batch, processes):
    """Each step's real segments over all processes are the next eight of the epoch's order."""
    order = list(Shuffled(size, seed=42))
    filled = Shuffled(size, 42, multiple=batch * processes)
    taken = [
        list(BatchSamplerShard(BatchSampler(filled, batch, False), processes, rank))
        for rank in range(processes)
    ]
    assert len({len(batches) for batches in taken}) == 1
    per_step = 8 // (batch * processes)
    for step in range(-(-size // 8)):
        mine = [each[step * per_step : (step + 1) * per_step] for each in taken]
        real = [draw for batches in mine for one in batches for draw in one if draw.counts]
        assert sorted(real) == sorted(order[step * 8 : (step + 1) * 8])


def test_padding_segments_add_nothing_to_the_loss():
    class Part:
        rows, targets, clip_of = [0, 1], [2, 1], [0, 1]

    segments = Segments([np.zeros(3), np.ones(3)], Part)
    features, length, target, _ = segments[Draw(1, counts=False)]
    assert features.tolist() == [1, 1, 1] and length == 3
    loss = torch.nn.functional.cross_entropy
    logits = torch.randn(1, 3)
    assert target == IGNORED
    assert loss(logits, torch.tensor([target]), label_smoothing=0.1, reduction="sum") == 0
