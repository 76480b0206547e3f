"""Sounds and backbones that are small and real."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
RATE = 16_000  # Hz


def tone(frequency: float, seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A tone with a little noise, float32 (samples,)."""
    noise = np.random.default_rng(seed).normal(0, 0.02, round(seconds * rate))
    wave = 0.4 * np.sin(2 * np.pi * frequency * np.arange(len(noise)) / rate)
    return (wave + noise).astype(np.float32)


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
