"""The backbone's pretraining: its music, that it learns, and that its weights are committed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from dvc.repo import Repo
from safetensors import safe_open
from transformers import HubertConfig

from genrepro.core.files import sha256
from genrepro.corpus.demo import composer
from pretraining import masked, music, probe, targets
from tests.support.samples import ROOT

FOLDER = ROOT / "backbones/mini-distilhubert"
PARAMS = yaml.safe_load((FOLDER / "params.yaml").read_text(encoding="utf-8"))
DEMO = yaml.safe_load((ROOT / "corpora/demo/corpus.yaml").read_text(encoding="utf-8"))
RATE = PARAMS["music"]["sample_rate"]


def small(**changes: object) -> dict:
    few = {"steps": 8, "batch_size": 4, "clusters": 8, "seed": 3}
    return PARAMS | few | {"probe": {"every": 4}} | changes


def config() -> HubertConfig:
    made = HubertConfig.from_pretrained(FOLDER, local_files_only=True)
    made.hidden_size, made.intermediate_size, made.conv_dim = 32, 32, [8] * 7
    return made


@pytest.fixture(scope="module")
def waves() -> np.ndarray:
    card = PARAMS["music"] | {"bands": 2, "genres_per_band": 4, "seconds": 1.0}
    return music.unlabelled(card)


def pretrained(waves: np.ndarray, params: dict) -> tuple[dict[str, torch.Tensor], list[float]]:
    wanted = targets.clusters(waves, RATE, params["clusters"], params["seed"])
    losses: list[float] = []
    model = masked.pretrain(
        config(), waves, wanted, params, "cpu", lambda step, loss, _: losses.append(loss)
    )
    return model.state_dict(), losses[1:]


def test_no_band_of_the_demo_plays_for_it():
    """Bands and songs are drawn from the seed, so other seeds are other bands."""
    probed = PARAMS["music"] | {k: v for k, v in PARAMS["probe"].items() if k != "every"}
    cards = {"demo": DEMO, "music": PARAMS["music"], "probe": probed}
    assert len({card["seed"] for card in cards.values()}) == 3
    voices = set()
    for card in cards.values():
        pieces = [piece for piece in composer.pieces(card) if piece.group == "band-00"]
        assert pieces
        voices |= {composer.render(piece, card).tobytes() for piece in pieces}
    assert len(voices) == sum(
        piece.group == "band-00" for card in cards.values() for piece in composer.pieces(card)
    )


def test_what_it_is_trained_on_carries_no_labels(waves):
    assert isinstance(waves, np.ndarray) and waves.dtype == np.int16
    assert waves.shape == (8, RATE)


def test_a_target_for_each_frame_of_the_model(waves):
    wanted = targets.clusters(waves, RATE, 8, seed=1)
    backbone = masked.MaskedPrediction(config(), 8).backbone.eval()
    frames = backbone(masked.normalized(waves)).last_hidden_state.shape[1]
    assert wanted.shape == (len(waves), frames)
    assert set(np.unique(wanted)) <= set(range(8)) and len(np.unique(wanted)) > 2


def test_masks_have_their_length_and_cover_their_share():
    rng = np.random.default_rng(0)
    mask = masked._mask(rng, (200, 199), {"mask_starts": 0.08, "mask_frames": 10})
    assert mask.mean() == pytest.approx(1 - 0.92**10, abs=0.03)
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(int), axis=1)
    for edge in edges:
        lengths = np.flatnonzero(edge == -1) - np.flatnonzero(edge == 1)
        assert min(lengths[:-1], default=10) >= 10  # only the clip's end may cut the last


def test_it_learns_and_gives_the_same_weights_again(waves):
    params = small(steps=24, warmup=0.2, learning_rate=3e-3, probe={"every": 6})
    one, losses = pretrained(waves, params)
    two, again = pretrained(waves, params)
    assert losses == again and all(torch.equal(one[name], two[name]) for name in one)
    assert losses[-1] < 0.9 * losses[0]
    other, _ = pretrained(waves, params | {"seed": 4})
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_probe_tells_sounds_apart():
    chance = np.random.default_rng(0)
    time = np.arange(RATE // 2) / RATE
    labels = ["low", "high"] * 10
    waves = np.stack(
        [
            (8000 * np.sin(2 * np.pi * (200 if label == "low" else 2000) * time)).astype(np.int16)
            + chance.integers(-200, 200, len(time), dtype=np.int16)
            for label in labels
        ]
    )
    backbone = masked.MaskedPrediction(config(), 8).backbone
    assert probe.accuracy(backbone, waves, labels, [str(n // 2) for n in range(20)]) > 0.9


def test_the_committed_weights_are_small_and_of_the_committed_code():
    weights = FOLDER / "model.safetensors"
    record = json.loads((ROOT / "metrics/pretraining.json").read_text())
    assert record["weights"] == sha256(weights)
    assert weights.stat().st_size <= 3_000_000
    with safe_open(weights, framework="np") as tensors:
        assert {tensors.get_tensor(name).dtype for name in tensors.keys()}  # noqa: SIM118 == {np.dtype("float16")}
    with Repo(str(ROOT)) as repo:
        assert repo.status(targets=[str(FOLDER / "dvc.yaml")]) == {}, (
            "the pretraining has changed: dvc repro backbones/mini-distilhubert/dvc.yaml"
        )
