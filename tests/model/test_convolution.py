"""Long convolutions by Fourier transform equal PyTorch's."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, load_extractor
from genrepro.export import onnx
from genrepro.model import backbone, convolution
from tests.support.samples import ROOT, tiny_backbone


@pytest.mark.parametrize("taps", [64, 65, 128])
@pytest.mark.parametrize("positions", [1, 40, 199, 1499])
@pytest.mark.parametrize(("batch", "groups"), [(1, 1), (3, 2)])
def test_it_equals_pytorchs_convolution(taps, positions, batch, groups):
    torch.manual_seed(0)
    wave = torch.randn(batch, 4, positions, dtype=torch.float64)
    weight = torch.randn(6, 4 // groups, taps, dtype=torch.float64)
    padding = taps // 2 + (positions < taps) * taps  # so that the output is not empty
    expected = functional.conv1d(wave, weight, padding=padding, groups=groups)
    given = convolution.convolve(wave, weight, padding, groups)
    assert given.shape == expected.shape
    assert torch.allclose(given, expected, atol=1e-11)


def test_gradients_are_exact():
    torch.manual_seed(0)
    wave = torch.randn(2, 4, 9, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 2, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *each: convolution.convolve(*each, 3, 2), (wave, weight))


def test_single_precision_is_about_as_accurate_as_pytorchs():
    torch.manual_seed(0)
    wave, weight = torch.randn(1, 96, 499), torch.randn(96, 48, 128) * 0.02
    exact = functional.conv1d(wave.double(), weight.double(), padding=64, groups=2)
    usual = functional.conv1d(wave, weight, padding=64, groups=2)
    given = convolution.convolve(wave, weight, 64, 2)
    assert (given - exact).abs().max() < 2 * (usual - exact).abs().max()


@pytest.mark.parametrize(
    "kept",
    [
        nn.Conv1d(4, 4, 63),
        nn.Conv1d(4, 4, 64, stride=2),
        nn.Conv1d(4, 4, 64, dilation=2),
        nn.Conv1d(4, 4, 65, padding="same"),
        nn.Conv1d(4, 4, 64, padding=3, padding_mode="circular"),
    ],
    ids=["short", "strided", "dilated", "same", "circular"],
)
def test_other_convolutions_are_left_to_pytorch(kept):
    wave = torch.randn(1, 4, 300)
    before = kept(wave)
    convolution.use_fourier_convolutions(kept)
    assert torch.equal(kept(wave), before)


@pytest.fixture
def model(tmp_path):
    params, folder = load(ROOT / "params.yaml"), tiny_backbone("hubert", tmp_path)
    extractor = adapt(load_extractor(folder), params.encode, longest_seconds=1.0)
    return backbone.build(folder, ["a", "b"], extractor, params.train, seed=0)[0].eval()


def test_a_model_keeps_its_logits_and_the_names_of_its_weights(model):
    conv = model.hubert.encoder.pos_conv_embed.conv
    wave = torch.randn(2, 16_000)
    quick = model(wave).logits
    names = list(model.state_dict())
    del conv._conv_forward  # back to PyTorch's
    assert torch.allclose(model(wave).logits, quick, atol=1e-6)
    assert not torch.equal(model(wave).logits, quick)  # both ways were used
    assert list(model.state_dict()) == names


@pytest.mark.slow
def test_it_is_exported_to_onnx_as_a_convolution(model, tmp_path):
    example = torch.randn(16_000).numpy()
    onnx.export(model, example, tmp_path / "model.onnx")
    kinds = [node.op_type for node in onnx.onnx.load(tmp_path / "model.onnx").graph.node]
    assert kinds.count("Conv") == len(model.config.conv_dim) + 1 and "DFT" not in kinds
    given = onnx.logits(onnx.session(tmp_path / "model.onnx"), example[None])
    assert abs(given - model(torch.tensor(example)[None]).logits.detach().numpy()).max() < 1e-5
