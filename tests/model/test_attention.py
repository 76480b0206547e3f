"""Blockwise attention dropout: PyTorch's attention, except for which weights are dropped."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, load_extractor
from genrepro.model import attention, backbone
from tests.support.samples import ROOT, tiny_backbone

ENCODER = nn.Module()
ENCODER.is_causal = False


def tensors(positions: int, dtype=torch.float64) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, positions, 4, dtype=dtype) for _ in range(3)]


@pytest.fixture(params=[1 << 22, 50], ids=["all heads at once", "one head at a time"])
def block(request, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", request.param)


def padded(positions: int) -> torch.Tensor:
    """A mask as transformers makes it: the second sequence ends two positions earlier."""
    mask = torch.ones(2, 1, positions, positions, dtype=torch.bool)
    mask[1, ..., -2:] = False
    return mask


@pytest.mark.parametrize("mask", [None, padded(7)], ids=["equal", "padded"])
def test_gradients_are_exact(block, mask):
    inputs = [each.requires_grad_() for each in tensors(7)]

    def seeded(*inputs):
        torch.manual_seed(1)  # so that each call drops the same weights
        return attention.attention(ENCODER, *inputs, mask, dropout=0.3)[0]

    assert torch.autograd.gradcheck(seeded, inputs)


@pytest.mark.parametrize("mask", [None, padded(40)], ids=["equal", "padded"])
def test_weights_are_softmax_or_dropped_at_the_given_rate(block, mask):
    query, key, _ = tensors(40)
    value = torch.eye(40, dtype=torch.float64).expand(2, 3, 40, 40)  # so the output is the weights
    usual = sdpa_attention_forward(ENCODER, query, key, value, mask)[0]
    given = attention.attention(ENCODER, query, key, value, mask, dropout=0.25)[0]
    dropped, possible = (given == 0) & (usual > 0), int((usual > 0).sum())
    assert torch.allclose(given[~dropped], usual[~dropped] / 0.75, atol=1e-12)
    assert abs(int(dropped.sum()) / possible - 0.25) < 4 * (0.25 * 0.75 / possible) ** 0.5


def test_the_seed_decides_which_weights_are_dropped(block):
    def drawn(seed: int) -> torch.Tensor:
        inputs = tensors(40)
        torch.manual_seed(seed)
        return attention.attention(ENCODER, *inputs, None, dropout=0.25)[0]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_gradient_checkpointing_drops_the_same_weights_again():
    def gradients(compute) -> list[torch.Tensor]:
        inputs = [each.requires_grad_() for each in tensors(40)]
        torch.manual_seed(1)
        compute(lambda *each: attention.attention(ENCODER, *each, None, dropout=0.25)[0], inputs)
        return [each.grad for each in inputs]

    def plain(attend, inputs) -> None:
        attend(*inputs).sum().backward()

    def checkpointed(attend, inputs) -> None:
        output = checkpoint(attend, *inputs, use_reentrant=False)
        torch.manual_seed(2)  # as other layers draw in between
        output.sum().backward()

    for usual, again in zip(gradients(plain), gradients(checkpointed)):
        assert torch.equal(usual, again)


def test_without_dropout_pytorch_computes_attention():
    inputs = tensors(40)
    usual = sdpa_attention_forward(ENCODER, *inputs, padded(40))[0]
    assert torch.equal(attention.attention(ENCODER, *inputs, padded(40))[0], usual)


def test_causal_and_additive_masks_are_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *_, **__: "PyTorch's")
    inputs, causal = tensors(8), nn.Module()  # for transformers, causal unless it says otherwise
    assert attention.attention(causal, *inputs, None, dropout=0.1) == "PyTorch's"
    added = torch.zeros(2, 1, 8, 8)
    bias = {"position_bias": added}
    assert attention.attention(ENCODER, *inputs, None, dropout=0.1, **bias) == "PyTorch's"
    assert attention.attention(ENCODER, *inputs, added, dropout=0.1) == "PyTorch's"


def test_under_autocast_scores_stay_in_float32():
    inputs = tensors(40, torch.float32)

    def given(inputs):
        torch.manual_seed(1)
        return attention.attention(ENCODER, *inputs, None, dropout=0.25)[0]

    with torch.autocast("cpu", torch.bfloat16):
        rounded = given([each.bfloat16() for each in inputs])
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, given([each.bfloat16().float() for each in inputs]))


def test_a_model_uses_it_in_training_only_and_does_not_save_it(tmp_path, monkeypatch):
    params = load(ROOT / "params.yaml")
    extractor = adapt(
        load_extractor(tiny_backbone("hubert", tmp_path)), params.encode, longest_seconds=1.0
    )
    model, _ = backbone.build(tmp_path, ["a", "b"], extractor, params.train, seed=0)
    model.config.layerdrop = 0.0  # else a layer may be skipped
    calls = []
    function = attention._Attention
    monkeypatch.setattr(function, "apply", lambda *a: calls.append(a) or a[2])
    model.train()(torch.randn(2, 16_000))
    assert len(calls) == model.config.num_hidden_layers
    model.eval()(torch.randn(2, 16_000))
    assert len(calls) == model.config.num_hidden_layers
    model.save_pretrained(tmp_path / "saved")
    assert attention.NAME not in (tmp_path / "saved/config.json").read_text()
