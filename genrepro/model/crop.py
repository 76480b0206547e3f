"""Shorten a backbone with positions of a fixed number to the length of a segment (Whisper, AST)."""

from __future__ import annotations

import json

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import SequenceFeatureExtractor as Extractor


def crop(model: PreTrainedModel, extractor: Extractor) -> None:
    """Shorten learnt positions, in place, to the length of a segment.

    Whisper and AST add a learnt or fixed vector to each position and accept their full length
    only. The first positions are kept, so a clip is heard as the start of a full window was.
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
    """Write a segment's length into the config; say whether that changed it."""
    if config.model_type == "whisper":
        key, length = "max_source_positions", extractor.nb_max_frames // 2  # its second conv halves
    elif config.model_type == "audio-spectrogram-transformer":
        key, length = "max_length", extractor.max_length
    else:
        return False
    changed = getattr(config, key) != length
    setattr(config, key, length)
    return changed
