"""The device of a run: a GPU of its own that PyTorch can use, and the precision it supports."""

import os
import signal
import subprocess
import sys
import warnings

import pytest
import torch

from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.model import device
from tests.support.samples import ROOT

TRAIN = load(ROOT / "params.yaml").train
CODE = """
import sys
from pathlib import Path
from genrepro.model import device
device.POLL = 0.05
print(device.claim(sys.argv[2:], Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


class Job:
    """A process that claims one of the GPUs, prints which, and keeps it until it ends."""

    def __init__(self, home, *names):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(home), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def prints(self) -> str:
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.mark.slow
def test_each_job_has_a_gpu_of_its_own_and_the_next_waits(tmp_path):
    home = tmp_path / "locks"
    first, second = Job(home, "a", "b"), Job(home, "a", "b")
    assert sorted([first.prints(), second.prints()]) == ["a", "b"]
    third = Job(home, "a", "b")
    assert third.prints() == "all 2 GPUs are in use by other experiments: waiting for one"
    second.kill()
    assert third.prints() in ("a", "b")
    first.end()
    third.end()


@pytest.fixture
def smi(monkeypatch, tmp_path):
    """An nvidia-smi, first on PATH, that prints what a test gives it; and a folder for locks."""

    def install(listing: str = "", query: str = "") -> None:
        script = tmp_path / "nvidia-smi"
        (tmp_path / "listing").write_text(listing)
        (tmp_path / "query").write_text(query)
        script.write_text(
            f'#!/bin/sh\n[ "$1" = -L ] && cat {tmp_path}/listing || cat {tmp_path}/query\n'
        )
        script.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return install


CARDS = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
  MIG 3g.20gb     Device  0: (UUID: MIG-1111)
  MIG 3g.20gb     Device  1: (UUID: MIG-2222)
GPU 2: Tesla T4 (UUID: GPU-cccc)
"""


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ["GPU-aaaa", "MIG-1111", "MIG-2222", "GPU-cccc"]),
        ("2", ["GPU-cccc"]),
        ("1,0", ["MIG-1111", "MIG-2222", "GPU-aaaa"]),
        ("GPU-cc, MIG-2222", ["GPU-cccc", "MIG-2222"]),
        ("0,7,2", ["GPU-aaaa"]),
        ("", []),
        ("-1", []),
    ],
)
def test_gpus_and_mig_instances_are_named_by_uuid(smi, monkeypatch, visible, expected):
    smi(CARDS)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.visible_gpus() == expected


def test_two_jobs_that_both_see_a_gpu_0_take_different_cards(smi, monkeypatch):
    """As under Slurm or in containers, where each job's cards are numbered from 0."""
    for uuid in ("GPU-aaaa", "GPU-bbbb"):
        smi(f"GPU 0: NVIDIA H100 (UUID: {uuid})\n")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        device.claim_gpu()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == uuid
        device.claim_gpu()  # again, in the same process


def test_no_gpu_is_claimed_where_there_is_none_or_locks_cannot_be_written(
    smi, monkeypatch, tmp_path, capsys
):
    smi("")
    device.claim_gpu()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    smi(CARDS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "listing"))  # a file
    device.claim_gpu()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert "GPUs are not locked" in capsys.readouterr().out


def no_kernel(*_, **__):
    raise RuntimeError("CUDA error: no kernel image is available for execution on the device")


def test_a_card_that_this_pytorch_does_not_support_is_named(smi, monkeypatch):
    smi(query="Tesla V100-SXM2-16GB, 580.65.06\n")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", no_kernel)
    words = r"no kernel image.*Tesla V100-SXM2-16GB; driver: 580.65.06.*CUDA.*train\.device=cpu"
    with pytest.raises(PipelineError, match=words):
        device.set_up(TRAIN)


def test_a_driver_that_is_too_old_is_named(smi, monkeypatch):
    def too_old():
        warnings.warn(
            "The NVIDIA driver on your system is too old (found version 11040).", stacklevel=1
        )
        return False

    smi(query="NVIDIA A100-SXM4-40GB, 470.57.02\n")
    monkeypatch.setattr(torch.cuda, "is_available", too_old)
    with pytest.raises(PipelineError, match=r"is too old.*A100.*470\.57\.02"):
        device.set_up(TRAIN)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose: train on the CPU
    device.set_up(TRAIN)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    device.set_up(TRAIN.model_copy(update={"device": "cpu"}))


def test_a_card_whose_memory_is_full_before_training_is_reported(smi, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("CUDA error: out of memory")

    smi(query="Tesla T4, 580.65.06\n")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", full)
    with pytest.raises(PipelineError, match="memory is full before training"):
        device.set_up(TRAIN)


def test_a_machine_without_a_gpu_trains_on_the_cpu_and_refuses_cuda(smi, monkeypatch):
    smi()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    device.set_up(TRAIN)
    assert device.choose_device(TRAIN) == "cpu"
    with pytest.raises(PipelineError, match="sees no GPU"):
        device.set_up(TRAIN.model_copy(update={"device": "cuda"}))


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")]
)
def test_cards_before_ampere_get_fp16(monkeypatch, capability, precision):
    """PyTorch counts emulated bf16 as supported unless asked otherwise."""

    class Properties:
        major, minor = capability

    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_: Properties)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    assert device.choose_precision(TRAIN, "cuda") == precision


@pytest.mark.parametrize("asked", ["fp16", "bf16", "fp64", "none"])
def test_precision_can_be_set_and_is_none_on_a_cpu(asked):
    train = TRAIN.model_copy(update={"precision": asked})
    assert device.choose_precision(train, "cpu") == device.choose_precision(train, "cuda") == asked
    assert device.choose_precision(TRAIN, "cpu") == "none"


@pytest.mark.parametrize(
    ("batch", "effective", "world", "smaller"),
    [(8, 8, 1, 4), (5, 5, 1, 1), (9, 9, 1, 3), (15, 15, 1, 5), (6, 12, 1, 4), (4, 8, 2, 2)],
)
def test_the_batch_size_suggested_when_memory_runs_out_is_accepted(
    monkeypatch, batch, effective, world, smaller
):
    monkeypatch.setattr(device.processes, "world", lambda: world)
    update = {"batch_size": batch, "effective_batch_size": effective}
    advice = device.less_memory(TRAIN.model_copy(update=update))
    assert f"-S train.batch_size={smaller}`" in advice
    type(TRAIN).model_validate(TRAIN.model_dump() | update | {"batch_size": smaller})


def test_one_segment_at_a_time_gets_advice_that_is_left_to_follow():
    alone = TRAIN.model_copy(update={"batch_size": 1, "freeze": "nothing"})
    assert "gradient_checkpointing=true or train.freeze=conv" in device.less_memory(alone)
    rest = {"gradient_checkpointing": True, "freeze": "convolutions"}
    assert "set a shorter encode" in device.less_memory(alone.model_copy(update=rest))
