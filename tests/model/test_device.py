"""Jobs side by side take a GPU each, or wait for one, and give it back however they end."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from genrepro.model import device
from tests.support.samples import ROOT

CODE = """
import sys
from pathlib import Path
from genrepro import gpus
gpus.POLL = 0.05
print(gpus.claim(sys.argv[2:], Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


class Job:
    """A process that claims one of the GPUs, says which, and keeps it until it ends."""

    def __init__(self, home, *names):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(home), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def says(self) -> str:
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def test_each_job_has_a_gpu_of_its_own_and_the_next_waits_and_says_so(tmp_path):
    home = tmp_path / "locks"
    first, second = Job(home, "0", "1"), Job(home, "0", "1")
    assert sorted([first.says(), second.says()]) == ["0", "1"]
    third = Job(home, "0", "1")
    assert third.says() == "all 2 GPUs are taken by other experiments: waiting for one"
    second.kill()
    assert third.says() in ("0", "1")
    first.end()
    third.end()


def test_a_single_gpu_is_taken_by_one_job_at_a_time(tmp_path):
    first = Job(tmp_path, "GPU-1/2")
    assert first.says() == "GPU-1/2"
    second = Job(tmp_path, "GPU-1/2")
    assert second.says().startswith("the GPU is taken by other experiments")
    first.end()
    assert second.says() == "GPU-1/2"
    second.end()


@pytest.fixture
def asked(monkeypatch):
    """The lists of GPUs that were claimed from, on a machine with three."""
    lists = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(gpus, "claim", lambda names: lists.append(names) or names[-1])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return lists


def test_the_process_sees_the_gpu_that_it_took(asked):
    device.claim_gpu("auto")
    assert asked == [["0", "1", "2"]]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"


def test_only_gpus_that_this_job_may_see_are_taken(asked, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 3,7,-1,4")
    device.claim_gpu("cuda")
    assert asked == [["5", "3", "7"]]


def test_none_is_taken_for_a_cpu_under_a_launcher_or_where_there_is_none(asked, monkeypatch):
    device.claim_gpu("cpu")
    monkeypatch.setenv("LOCAL_RANK", "0")
    device.claim_gpu("cuda")
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    device.claim_gpu("auto")
    assert asked == []
