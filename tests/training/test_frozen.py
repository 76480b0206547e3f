"""The outputs of frozen layers are computed once, and replace these layers in training."""

import numpy as np
import pytest
import torch

from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, extract_segments, load_extractor
from genrepro.encoding.parts import Part
from genrepro.encoding.store import Encoded, write_index, write_shard
from genrepro.model import backbone
from genrepro.model.inference import segment_logits
from genrepro.training import frozen
from genrepro.training.data import Collator, Draw
from tests.support.samples import ROOT, tiny_backbone, tone

PARAMS = load(ROOT / "params.yaml")
TRAIN = PARAMS.train.model_copy(update={"device": "cpu", "batch_size": 2})
FROZEN = [
    ("hubert", "convolutions"),
    ("hubert", "backbone"),
    ("ast", "backbone"),
    ("whisper", "backbone"),
]


@pytest.fixture(scope="module", params=FROZEN, ids="-".join)
def made(request, tmp_path_factory):
    """A model with frozen layers, and four encoded clips: two of 1 s, two of 1.3 s."""
    kind, what = request.param
    folder = tmp_path_factory.mktemp(kind)
    extractor = adapt(load_extractor(tiny_backbone(kind, folder)), PARAMS.encode, 1.3)
    train = PARAMS.train.model_copy(update={"freeze": what})
    model, _ = backbone.build(folder, ["a", "b", "c"], extractor, train, seed=0)
    waves = [tone(300 + 100 * n, (1.0, 1.3)[n % 2], seed=n) for n in range(4)]
    rows = [(f"clip{n}", 0, extract_segments(extractor, wave)[0]) for n, wave in enumerate(waves)]
    shard = folder / "data-00000-of-00001.arrow"
    write_shard(shard, rows, model.main_input_name, rows[0][2].ndim)
    write_index(folder, [shard])
    return model.eval(), Encoded.open(folder)


PARTS = {
    "train": Part(["clip0", "clip1", "clip3"], [0, 1, 2], rows=[0, 1, 3], clip_of=[0, 1, 2]),
    "validation": Part(["clip2"], [1], rows=[2], clip_of=[0]),
}


def test_logits_are_those_of_the_whole_model(made, tmp_path):
    model, encoded = made
    expected = segment_logits(model, [encoded[row] for row in range(4)], 1)
    with frozen.cached_outputs(model, encoded, PARTS, TRAIN, tmp_path / "frozen") as segments:
        assert len(segments["train"]) == 3 and segments["validation"][Draw(0)].target == 1
        assert segments["train"].features(0).shape != encoded[0].shape
        for part, rows in (("train", [0, 1, 3]), ("validation", [2])):
            given = [segments[part].features(n) for n in range(len(rows))]
            assert np.abs(segment_logits(model, given, 2) - expected[rows]).max() < 1e-3
    assert np.array_equal(segment_logits(model, [encoded[0]], 1), expected[:1])


def test_outputs_of_unequal_length_share_a_batch(made, tmp_path):
    model, encoded = made
    expected = segment_logits(model, [encoded[row] for row in (0, 1, 3)], 1)
    with frozen.cached_outputs(model, encoded, PARTS, TRAIN, tmp_path / "frozen") as segments:
        batch = Collator(model.main_input_name)([segments["train"][Draw(n)] for n in range(3)])
        batch.pop("labels")
        with torch.inference_mode():
            assert np.abs(model(**batch).logits.numpy() - expected).max() < 1e-3


def test_only_trainable_parameters_get_gradients_and_the_model_is_whole_again(made, tmp_path):
    model, encoded = made
    names = model.state_dict().keys()
    with frozen.cached_outputs(model, encoded, PARTS, TRAIN, tmp_path / "frozen") as segments:
        assert model.state_dict().keys() < names
        batch = Collator(model.main_input_name)([segments["train"][Draw(n)] for n in range(3)])
        model(**batch).loss.backward()
    assert model.state_dict().keys() == names
    for name, parameter in model.named_parameters():
        reached = parameter.grad is not None and parameter.grad.abs().sum() > 0
        assert reached == parameter.requires_grad or "pos" in name or "masked" in name, name
    model.zero_grad()


def test_outputs_on_disk_are_not_computed_again(made, tmp_path, monkeypatch):
    model, encoded = made
    with frozen.cached_outputs(model, encoded, PARTS, TRAIN, tmp_path / "frozen") as segments:
        before = [segments["train"].features(n).copy() for n in range(3)]
    layers = model.get_submodule(frozen.frozen_layers(model))
    monkeypatch.setattr(type(layers), "forward", None)
    with frozen.cached_outputs(model, encoded, PARTS, TRAIN, tmp_path / "frozen") as segments:
        for n, features in enumerate(before):
            assert np.array_equal(features, segments["train"].features(n))


def test_a_model_without_frozen_layers_reads_what_was_encoded(made, tmp_path):
    model, encoded = made
    trainable = {name: p.requires_grad for name, p in model.named_parameters()}
    model.requires_grad_(True)
    with frozen.cached_outputs(model, encoded, PARTS, TRAIN, tmp_path / "frozen") as segments:
        assert segments["train"].encoded is encoded and not (tmp_path / "frozen").exists()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trainable[name])


@pytest.mark.parametrize(
    "changed", [{"augment": ["shift"]}, {"spec_augment": True}, {"dropout": 0.1}]
)
def test_outputs_that_vary_are_not_computed_once(made, tmp_path, capsys, changed):
    """SpecAugment and dropout act after the convolutions, whose outputs they leave alone."""
    model, encoded = made
    train = TRAIN.model_copy(update=changed)
    once = "augment" not in changed and frozen.frozen_layers(model).endswith("feature_extractor")
    with frozen.cached_outputs(model, encoded, PARTS, train, tmp_path / "frozen") as segments:
        assert (segments["train"].encoded is not encoded) == once
    assert ("computed in every epoch" in capsys.readouterr().out) == (not once)


def test_the_precision_of_the_run_is_used(made, tmp_path):
    model, encoded = made
    recipe = TRAIN.model_copy(update={"precision": "bf16"})
    outputs = {}
    for train in (TRAIN, recipe):
        folder = tmp_path / train.precision
        with frozen.cached_outputs(model, encoded, PARTS, train, folder) as segments:
            outputs[train.precision] = segments["train"].features(0).astype(np.float32)
    difference = np.abs(outputs["auto"] - outputs["bf16"]).max()
    assert 0 < difference < 0.1 * np.abs(outputs["auto"]).max()
