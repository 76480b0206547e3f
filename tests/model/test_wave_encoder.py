"""The encoder as matrix products gives what transformers' gives, and its gradients."""

import pytest
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

from genrepro.model import wave_encoder

SMALL = {"conv_dim": (16,) * 7, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16}
SMALL |= {"num_attention_heads": 2, "num_conv_pos_embeddings": 16}


def encoder(kind: type = HubertModel, config: type = HubertConfig, **others: object):
    torch.manual_seed(0)
    return kind(config(**SMALL | {"num_conv_pos_embedding_groups": 2} | others)).feature_extractor


@pytest.mark.parametrize("samples", [400, 1_600, 16_037])
@pytest.mark.parametrize(
    "kind", [(HubertModel, HubertConfig), (Wav2Vec2Model, Wav2Vec2Config)], ids=["hubert", "w2v2"]
)
def test_outputs_and_gradients_are_those_of_transformers(kind, samples):
    model = encoder(*kind)
    waves = 0.3 * torch.randn(3, samples) + 0.1
    expected = model(waves)
    given = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, list(model.parameters()), given)
    outputs = wave_encoder.encode(model, waves).transpose(1, 2)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    found = torch.autograd.grad(outputs, list(model.parameters()), given)
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm()


def test_a_clip_does_not_depend_on_its_batch():
    model, waves = encoder(), torch.randn(2, 4_000)
    with torch.inference_mode():
        both, alone = wave_encoder.encode(model, waves), wave_encoder.encode(model, waves[1:])
    torch.testing.assert_close(both[1:], alone)


def test_half_precision_is_as_near_as_pytorchs_own():
    model, waves = encoder(), torch.randn(2, 8_000)
    exact = model(waves)
    with torch.autocast("cpu", torch.bfloat16):
        usual = model(waves)
        ours = wave_encoder.encode(model, waves).transpose(1, 2)
    assert ours.dtype is torch.bfloat16
    assert (ours - exact).norm() <= 1.5 * (usual - exact).norm()


@pytest.mark.parametrize("others", [{"feat_extract_norm": "layer"}, {"conv_bias": True}])
def test_other_encoders_are_left_alone(others):
    model = HubertModel(HubertConfig(**SMALL | {"num_conv_pos_embedding_groups": 2} | others))
    before = model.feature_extractor.forward
    wave_encoder.use_matrix_products(model)
    assert model.feature_extractor.forward == before


def test_on_a_cpu_transformers_own_code_runs(monkeypatch):
    model = HubertModel(HubertConfig(**SMALL | {"num_conv_pos_embedding_groups": 2}))
    expected = model.feature_extractor(waves := torch.randn(1, 2_000))
    wave_encoder.use_matrix_products(model)
    monkeypatch.setattr(wave_encoder, "encode", None)
    assert torch.equal(model.feature_extractor(waves), expected)
