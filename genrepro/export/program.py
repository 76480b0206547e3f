"""Put classify.py, which runs without this repository and PyTorch, beside the exported ONNX."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the page's tool asks only what is supported, and starts without it
    from transformers import SequenceFeatureExtractor

PROGRAM = Path(__file__).with_name("classify.py")
KINDS = ("ASTFeatureExtractor", "Wav2Vec2FeatureExtractor", "WhisperFeatureExtractor")


def supports(kind: str) -> bool:
    """Whether classify.py can compute the features of this type of feature extractor."""
    return kind in KINDS


def write(extractor: SequenceFeatureExtractor, folder: Path) -> None:
    """Write classify.py and the mel filters that it needs, unless it cannot compute the features.

    Args:
        folder: has `onnx/` already.
    """
    if not supports(type(extractor).__name__):
        return
    shutil.copyfile(PROGRAM, folder / PROGRAM.name)
    if hasattr(extractor, "mel_filters"):
        np.save(folder / "onnx/mel_filters.npy", extractor.mel_filters)
