"""Small real things to test with: a corpus of tones, tiny backbones with weights, params.yaml."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs a Hub starts its own
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, a core each

from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

ROOT = Path(__file__).parent.parent
LONG = ("ecosystem", "launcher", "pipeline", "two_at_once", "hub", "read_only", "torture")
RATE = 16_000


def tone(frequency: float, seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A tone with a little noise, float32 (samples,)."""
    noise = np.random.default_rng(seed).normal(0, 0.02, round(seconds * rate))
    wave = 0.4 * np.sin(2 * np.pi * frequency * np.arange(len(noise)) / rate)
    return (wave + noise).astype(np.float32)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take minutes, so that both workers end at about the same time."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONG)


@pytest.fixture
def in_tmp(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tone_corpus(tmp_path_factory) -> Path:
    """Three labels by pitch, twelve clips each of 1 s: <label>/<clip>.wav."""
    folder = tmp_path_factory.mktemp("corpus")
    for label, frequency in (("low", 220.0), ("middle", 880.0), ("high", 3520.0)):
        (folder / label).mkdir()
        for number in range(12):
            wave = tone(frequency * (1 + number / 50), 1.0, seed=number)
            soundfile.write(folder / label / f"{label}.{number:02d}.wav", wave, RATE)
    return folder


@pytest.fixture(scope="session")
def repo(tmp_path_factory):
    """A clone after `dvc repro`, one for all tests. To look at: what changes it takes a `copy`."""
    import pipeline_repo  # imports DVC, and this file

    return pipeline_repo.reproduced(tmp_path_factory)


@pytest.fixture(scope="session")
def params_yaml() -> dict:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def tiny_backbone(kind: str, folder: Path) -> Path:
    """Save a tiny backbone with random weights, as from the Hub: "hubert", "ast" or "whisper"."""
    import torch
    from transformers import (
        ASTConfig,
        ASTFeatureExtractor,
        ASTModel,
        HubertConfig,
        HubertModel,
        Wav2Vec2FeatureExtractor,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperModel,
    )

    torch.manual_seed(0)
    small = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
    if kind == "hubert":
        config = HubertConfig(
            **small,
            intermediate_size=32,
            conv_dim=(16,) * 7,
            num_conv_pos_embeddings=64,
            num_conv_pos_embedding_groups=2,
            apply_spec_augment=False,
        )
        model, extractor = HubertModel(config), Wav2Vec2FeatureExtractor()
    elif kind == "ast":
        config = ASTConfig(**small, intermediate_size=32, num_mel_bins=32, max_length=1024)
        model, extractor = ASTModel(config), ASTFeatureExtractor(num_mel_bins=32)
    else:
        config = WhisperConfig(
            d_model=32,
            encoder_layers=2,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            vocab_size=64,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=0,
            decoder_start_token_id=0,
            classifier_proj_size=16,
        )
        model, extractor = WhisperModel(config), WhisperFeatureExtractor()
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder
