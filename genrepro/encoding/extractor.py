"""Turn waveforms into segments of features, with the backbone's own feature extractor.

Only the backbone's `preprocessor_config.json` is read. The adapted extractor is saved beside the
features, with the lengths used here, so that a trained model gets the input it was trained on.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from transformers import AutoFeatureExtractor
from transformers import SequenceFeatureExtractor as Extractor

from genrepro.core.errors import PipelineError, one_line
from genrepro.core.params import Encode

ROUNDING = 1  # samples; a resampler may round a clip's length up by one


def load_extractor(folder: Path) -> Extractor:
    """Load the feature extractor of a backbone, of an encoded corpus or of a trained model.

    Raises:
        PipelineError: the folder holds no `preprocessor_config.json` that transformers can use.
    """
    try:
        return AutoFeatureExtractor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(
            f"{folder}/preprocessor_config.json gives no feature extractor ({one_line(error)}); "
            "copy the file from a model of the same kind."
        ) from None


def adapt(extractor: Extractor, encode: Encode, longest_seconds: float) -> Extractor:
    """Adapt a feature extractor to a corpus, in place, so that no segment is padded needlessly.

    A segment is as long as `encode.segment_seconds` asks, but no longer than the longest clip, nor
    than the backbone's longest input (10.24 s for most AST, 30 s for Whisper): longer clips get
    more segments instead. The result is tried on a second of noise.

    Args:
        longest_seconds: the length of the corpus's longest clip.

    Raises:
        PipelineError: the extractor's file holds a value that it cannot work with.
    """
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    try:
        adapted = _adapted(extractor, encode, longest_seconds)
        extract_segments(adapted, noise)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise PipelineError(
            "the backbone's preprocessor_config.json holds a value that its feature extractor "
            f"cannot work with ({one_line(error)}); copy the file from a model of the same kind."
        ) from None
    return adapted


def _adapted(extractor: Extractor, encode: Encode, longest_seconds: float) -> Extractor:
    longest = min(longest_seconds, encode.max_seconds)
    segment = min(encode.segment_seconds, longest, _limit_seconds(extractor))
    if hasattr(extractor, "chunk_length"):  # Whisper: always padded to whole seconds
        extractor.chunk_length = math.ceil(segment)
        extractor.n_samples = extractor.chunk_length * extractor.sampling_rate
        extractor.nb_max_frames = extractor.n_samples // extractor.hop_length
    elif hasattr(extractor, "num_mel_bins") and hasattr(extractor, "max_length"):  # AST
        extractor.max_length = min(extractor.max_length, _ast_frames(segment, extractor))
    elif hasattr(extractor, "do_normalize"):  # waveforms
        extractor.do_normalize = encode.normalize
    extractor.max_seconds = encode.max_seconds
    extractor.segment_seconds = round(segment, 6)
    extractor.hop_seconds = min(encode.hop_seconds or segment, segment)
    return extractor


def _limit_seconds(extractor: Extractor) -> float:
    """The length of the backbone's longest input, in seconds."""
    if hasattr(extractor, "chunk_length"):
        return float(extractor.chunk_length)
    if hasattr(extractor, "num_mel_bins") and hasattr(extractor, "max_length"):
        return 0.024 + 0.01 * extractor.max_length  # whole frames of 25 ms every 10 ms
    return math.inf


def _ast_frames(seconds: float, extractor: Extractor) -> int:
    """The number of Kaldi's frames that fit into the signal; at least one patch of 16."""
    return max(16, 1 + int((seconds - 0.025) / 0.01 + 1e-6))


def extract_segments(extractor: Extractor, wave: np.ndarray) -> list[np.ndarray]:
    """Cut one clip into segments and extract each one's features.

    Args:
        extractor: as `adapt` left it.
        wave: (samples,) float32, mono, at the extractor's sampling rate.

    Returns:
        One float16 array per segment: (samples,) for a backbone that takes waveforms, else
        (frames, bins) or (bins, frames), whichever it takes. Half precision keeps 11 bits: its
        rounding error is below the noise of recordings.
    """
    rate = extractor.sampling_rate
    wave = wave[: round(extractor.max_seconds * rate)]
    length = round(extractor.segment_seconds * rate)
    hop = max(1, round(extractor.hop_seconds * rate))
    return [
        _halved(_features(extractor, wave[start : start + length]))
        for start in _starts(len(wave), length, hop)
    ]


def _features(extractor: Extractor, wave: np.ndarray) -> np.ndarray:
    """The features of one segment, without frames that the extractor marks as padding.

    Only SeamlessM4T's (w2v-BERT) adds such a frame: to an odd number of them.
    """
    output = extractor(wave, sampling_rate=extractor.sampling_rate)
    features = np.asarray(output[extractor.model_input_names[0]][0])
    mask = output.get("attention_mask")
    if mask is None or len(mask[0]) != len(features):
        return features
    return features[np.asarray(mask[0], dtype=bool)]


def _halved(features: np.ndarray) -> np.ndarray:
    """Convert to float16 with PyTorch: the same bits as NumPy's, 30 times faster."""
    return torch.from_numpy(np.ascontiguousarray(features, np.float32)).half().numpy()


def _starts(total: int, length: int, hop: int) -> list[int]:
    """Where segments start. The last is moved back to end with the clip, so all are whole."""
    if total <= length + ROUNDING:
        return [0]
    starts = list(range(0, total - length + 1, hop))
    if starts[-1] + length < total - ROUNDING:
        starts.append(total - length)
    return starts
