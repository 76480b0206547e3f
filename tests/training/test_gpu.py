"""What only a GPU can show: precision, determinism, memory that runs out, prefetching, claims."""

import os
import subprocess
import sys

import pytest
import torch

from genrepro.core.errors import PipelineError
from genrepro.model import device
from genrepro.training import fine_tune
from genrepro.training.trainer import ClipTrainer
from tests.model.test_device import CODE
from tests.support.samples import ROOT
from tests.support.tones import corpus, preempted, train, weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return corpus("hubert", tmp_path_factory.mktemp("made"), seconds=(0.6, 0.6, 0.5))


@pytest.mark.parametrize("precision", ["bf16", "fp16", "none"])
@pytest.mark.parametrize("freeze", ["nothing", "convolutions"])
def test_two_runs_give_the_same_bytes_in_each_precision(made, tmp_path, precision, freeze):
    recipe = {"device": "cuda", "precision": precision, "freeze": freeze, "epochs": 2}
    one, outcome = train(made, tmp_path / "one", **recipe)
    two, again = train(made, tmp_path / "two", **recipe)
    assert outcome == again and torch.isfinite(weights(one)).all()
    assert torch.equal(weights(one).cpu(), weights(two).cpu())


def test_a_stopped_run_resumes_to_the_same_bytes(made, tmp_path, monkeypatch):
    recipe = {"device": "cuda", "epochs": 2}
    uninterrupted, _ = train(made, tmp_path / "uninterrupted", **recipe)
    preempted(monkeypatch, made, tmp_path / "interrupted", 2, **recipe)
    resumed, _ = train(made, tmp_path / "interrupted", **recipe)
    assert torch.equal(weights(resumed).cpu(), weights(uninterrupted).cpu())


def test_in_single_precision_it_learns_as_on_a_cpu(tmp_path):
    made = corpus("ast", tmp_path)
    _, gpu = train(made, tmp_path / "gpu", device="cuda", precision="none", epochs=1)
    _, cpu = train(made, tmp_path / "cpu", device="cpu", epochs=1)
    assert gpu.loss == pytest.approx(cpu.loss, abs=0.02)


@pytest.mark.parametrize("at", ["training_step", "evaluate"])
def test_a_full_gpu_is_one_sentence(made, tmp_path, monkeypatch, at):
    original = getattr(ClipTrainer, at)

    def fill(self, *args, **kwargs):
        self.blocks = [torch.empty(2**33, dtype=torch.uint8, device="cuda") for _ in range(100)]
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ClipTrainer, at, fill)
    with pytest.raises(PipelineError, match=r"out of memory; .*-S train\.batch_size=4"):
        train(made, tmp_path, device="cuda")
    torch.cuda.empty_cache()


def test_no_step_waits_for_the_gpu(made, tmp_path, monkeypatch):
    """PyTorch raises where a step's host code would wait, once the first step is over."""
    step = ClipTrainer.training_step
    batches = ClipTrainer.get_batch_samples
    steps = []

    def watched(function):
        def call(self, *args, **kwargs):
            torch.cuda.set_sync_debug_mode("error" if len(steps) > 1 else "default")
            try:
                return function(self, *args, **kwargs)
            finally:
                torch.cuda.set_sync_debug_mode("default")
                steps.append(function)

        return call

    monkeypatch.setattr(ClipTrainer, "training_step", watched(step))
    monkeypatch.setattr(ClipTrainer, "get_batch_samples", watched(batches))
    made = corpus("ast", tmp_path)  # HuBERT's SpecAugment and layerdrop decide on the host
    train(made, tmp_path / "run", device="cuda", precision="bf16", epochs=2)
    assert len(steps) > 6


def test_memory_reported_is_that_of_training_and_not_of_frozen_layers(made, tmp_path):
    train(made, tmp_path, device="cuda", freeze="backbone", epochs=1, batch_size=8)
    assert 0 < torch.cuda.max_memory_allocated() < 100e6


def test_two_jobs_never_have_the_same_gpu(tmp_path):
    if not (gpus := device.visible_gpus()):
        pytest.skip("nvidia-smi lists no GPU")
    code = CODE.replace("sys.argv[2:]", "device.visible_gpus()")
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != device.VISIBLE},
        )
        for _ in range(2)
    ]
    first = [job.stdout.readline().strip() for job in jobs]
    assert sum(line in gpus for line in first) == min(2, len(gpus))
    for job in jobs:
        job.kill()
        job.communicate()


def test_the_resolved_device_is_the_card(made):
    recipe = fine_tune.Train.model_construct(device="cuda", precision="auto")
    assert device.resolved(recipe)["device"] == torch.cuda.get_device_name()
