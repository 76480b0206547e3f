"""Logits of segments, computed alike for validation, test, export and the command line.

Only segments of equal length share a batch. So nothing is padded, and a clip's prediction depends
on that clip alone, whatever the batch size, as in transformers' `pipeline("audio-classification")`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

# Numbers in one batch. On a CPU a waveform of 30 s at 16 kHz, which takes DistilHuBERT 1.8 GB;
# sixteen take 10.7 GB, and no less time per clip. On a GPU four, since one does not keep it busy.
MOST_NUMBERS = {"cpu": 1 << 19, "cuda": 1 << 21}


def stacked(segments: Sequence[np.ndarray], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Stack segments into one batch, zero-padded at the end along every axis that differs.

    Half precision is converted to `dtype` while it is copied, faster than NumPy would do it.
    """
    shape = [max(sizes) for sizes in zip(*(segment.shape for segment in segments))]
    equal = all(segment.shape == segments[0].shape for segment in segments)
    batch = (torch.empty if equal else torch.zeros)(len(segments), *shape, dtype=dtype)
    for row, segment in zip(batch, segments):
        row[tuple(slice(size) for size in segment.shape)] = torch.from_numpy(segment)
    return batch


@torch.inference_mode()
def segment_logits(
    model: PreTrainedModel, segments: Sequence[np.ndarray], batch_size: int
) -> np.ndarray:
    """Classify segments.

    Args:
        model: on any device, under whatever autocast its caller has set up.
        segments: features as `extract_segments` returns them, of any lengths.
        batch_size: the most segments in one batch; there are fewer where they would hold more than
            MOST_NUMBERS.

    Returns:
        (segments, labels), in the order of `segments`: float64 from a model in float64, else
        float32.
    """
    was_training = model.training
    model.eval()
    full = torch.promote_types(model.dtype, torch.float32)
    logits = torch.empty(len(segments), model.config.num_labels, dtype=full)
    most = MOST_NUMBERS[model.device.type]
    for rows in batches([segment.shape for segment in segments], batch_size, most):
        batch = stacked([segments[row] for row in rows], full)
        out = model(**{model.main_input_name: batch.to(model.device)}).logits
        logits[rows] = out.to(full).cpu()
    model.train(was_training)
    return logits.numpy()


def batches(
    shapes: list[tuple[int, ...]], batch_size: int, most_numbers: int
) -> Iterator[list[int]]:
    """Batches of indices of one shape each, the longest first: lack of memory shows at once."""
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, shape in enumerate(shapes):
        by_shape[shape].append(index)
    for shape in sorted(by_shape, reverse=True):
        rows = by_shape[shape]
        size = max(1, min(batch_size, most_numbers // math.prod(shape)))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def average_segments(logits: np.ndarray, clip_index: np.ndarray) -> np.ndarray:
    """Average the logits of each clip's segments, which gives one prediction per clip.

    Up to a constant, that is the mean of their log-probabilities: the segments count as independent
    evidence of one label. Dividing by a temperature before or after gives the same.

    Args:
        logits: (segments, labels).
        clip_index: (segments,), each segment's clip, numbered from 0 without gaps.

    Returns:
        (clips, labels), in the precision of `logits` but at least float32.
    """
    sums = np.zeros((int(clip_index.max()) + 1, logits.shape[1]))
    np.add.at(sums, clip_index, logits.astype(np.float64))
    means = sums / np.bincount(clip_index)[:, None]
    return means.astype(np.promote_types(logits.dtype, np.float32))
