"""Dropout: PyTorch's, but that the seed alone decides what is dropped, on any processor."""

import numpy as np
import pytest
import torch
from torch import nn

from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, load_extractor
from genrepro.model import backbone
from genrepro.model.dropout import Dropout, draw_kept
from tests.support.samples import ROOT, tiny_backbone


def test_the_seed_drops_what_it_drops_on_every_processor():
    """NumPy's Mersenne Twister, which no processor's library replaces, gives the same bits."""
    twister = np.random.RandomState(42)._bit_generator.random_raw(6).astype(np.uint64)
    words = twister[::2] << np.uint64(32) | twister[1::2]
    torch.manual_seed(42)
    kept = draw_kept(torch.Size([2, 6]), 0.5)
    assert kept.tolist() == (words.view(np.int16) >= 0).reshape(2, 6).tolist()


@pytest.mark.parametrize("rate", [0.1, 0.75])
def test_values_are_dropped_at_the_rate_and_the_others_scaled(rate):
    torch.manual_seed(0)
    inputs = torch.rand(100, 101, dtype=torch.float64) + 1
    inputs.requires_grad_()
    given = Dropout(rate)(inputs)
    dropped = given == 0
    assert abs(dropped.double().mean() - rate) < 4 * (rate * (1 - rate) / inputs.numel()) ** 0.5
    torch.testing.assert_close(given[~dropped], (inputs / (1 - rate))[~dropped])
    given.sum().backward()
    expected = torch.where(dropped, 0.0, 1 / (1 - rate)).double()
    torch.testing.assert_close(inputs.grad, expected)


def test_nothing_is_dropped_in_evaluation_and_at_a_rate_of_0():
    inputs = torch.rand(50)
    assert torch.equal(Dropout(0.5).eval()(inputs), inputs)
    assert torch.equal(Dropout(0.0)(inputs), inputs)


@pytest.mark.parametrize("kind", ["hubert", "ast"])
def test_no_layer_of_a_model_draws_its_dropout_otherwise(kind, tmp_path):
    params = load(ROOT / "params.yaml")
    extractor = adapt(load_extractor(tiny_backbone(kind, tmp_path)), params.encode, 1.0)
    recipe = params.train.model_copy(update={"dropout": 0.1})
    model, _ = backbone.build(tmp_path, ["a", "b"], extractor, recipe, 0)
    kinds = [type(layer) for layer in model.modules() if isinstance(layer, nn.Dropout)]
    assert set(kinds) == {Dropout}
    recipe = recipe.model_copy(update={"fast_kernels": False})
    plain, _ = backbone.build(tmp_path, ["a", "b"], extractor, recipe, 0)
    assert sum(type(layer) is nn.Dropout for layer in plain.modules()) == len(kinds)


def test_float64_weights_are_drawn_in_float64(tmp_path):
    """Drawn in float32, their last bits depend on the processor's instructions."""
    params = load(ROOT / "params.yaml")
    extractor = adapt(load_extractor(tiny_backbone("hubert", tmp_path)), params.encode, 1.0)
    recipe = params.train.model_copy(update={"precision": "fp64"})
    model, _ = backbone.build(tmp_path, ["a", "b"], extractor, recipe, 0)
    drawn = model.projector.weight
    assert drawn.dtype == torch.float64 and not torch.equal(drawn, drawn.float().double())
