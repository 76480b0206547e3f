"""Shorten a backbone with a fixed number of positions (Whisper, AST) to the segment length."""

from __future__ import annotations

import json

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import SequenceFeatureExtractor as Extractor

# What a config calls the length that these models are built for; others take any length.
FIXED_LENGTH = {"whisper": "max_source_positions", "audio-spectrogram-transformer": "max_length"}


def crop(model: PreTrainedModel, extractor: Extractor) -> None:
    """Shorten a model's position embeddings, in place, to the segment length.

    Whisper and AST add a vector to each position and accept only inputs of their full length. The
    first positions are kept, so a segment is processed like the start of a full-length input.
    """
    before = json.loads(model.config.to_json_string(use_diff=False))
    if not crop_config(model.config, extractor):
        return
    if model.config.model_type == "whisper":
        kept = model.encoder.embed_positions.weight[: model.config.max_source_positions]
        model.encoder.embed_positions = nn.Embedding.from_pretrained(kept.clone(), freeze=True)
        model.encoder.max_source_positions = len(kept)
    else:
        embeddings = model.audio_spectrogram_transformer.embeddings
        rows, columns = embeddings.get_shape(type(model.config)(**before))
        kept_columns = embeddings.get_shape(model.config)[1]
        special, grid = embeddings.position_embeddings.data.split([2, rows * columns], dim=1)
        grid = grid.unflatten(1, (rows, columns))[:, :, :kept_columns].flatten(1, 2)
        embeddings.position_embeddings = nn.Parameter(torch.cat([special, grid], dim=1))


def crop_config(config, extractor: Extractor) -> bool:
    """Set the segment length in a config; return whether that changed it."""
    key = FIXED_LENGTH.get(config.model_type)
    if key is None:
        return False
    whisper = config.model_type == "whisper"  # its second convolution has stride 2
    length = extractor.nb_max_frames // 2 if whisper else extractor.max_length
    changed = getattr(config, key) != length
    setattr(config, key, length)
    return changed
