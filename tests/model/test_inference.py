"""The device of evaluate and export, and logits in batches of bounded size."""

import pytest
import torch

from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.model import device
from genrepro.model.inference import MOST_NUMBERS, batches
from tests.support.samples import ROOT

EVALUATE = load(ROOT / "params.yaml").evaluate


@pytest.fixture
def settings():
    """PyTorch's settings, put back after the test."""
    tf32, debug = torch.backends.cudnn.allow_tf32, torch.get_deterministic_debug_mode()
    yield
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_deterministic_debug_mode(debug)


def test_a_gpu_is_used_in_full_precision_and_repeatably(monkeypatch, settings):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(device, "claim_gpu", lambda: calls.append("claimed"))
    monkeypatch.setattr(device, "check_gpu", calls.append)
    assert device.set_up_inference(EVALUATE) == "cuda"
    assert calls == ["claimed", "evaluate.device"]
    assert not torch.backends.cudnn.allow_tf32
    assert torch.are_deterministic_algorithms_enabled()


def test_a_cpu_is_used_where_there_is_no_gpu_or_it_is_asked_for(monkeypatch, settings):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "claim_gpu", lambda: None)
    monkeypatch.setattr(device, "check_gpu", lambda key: None)
    assert device.set_up_inference(EVALUATE) == "cpu"
    with pytest.raises(PipelineError, match=r"evaluate\.device is cuda, but PyTorch sees no GPU"):
        device.set_up_inference(EVALUATE.model_copy(update={"device": "cuda"}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.set_up_inference(EVALUATE.model_copy(update={"device": "cpu"})) == "cpu"


def test_a_batch_holds_at_most_the_samples_of_one_long_clip():
    long, short = (480_000,), (16_000,)
    shapes, most = [short] * 50 + [long] * 3 + [(80, 3_000)] * 3, MOST_NUMBERS["cpu"]
    assert [len(rows) for rows in batches(shapes, 40, most)] == [1, 1, 1, 32, 18, 2, 1]
    assert list(batches([short, long, short], 1, most)) == [[1], [0], [2]]
