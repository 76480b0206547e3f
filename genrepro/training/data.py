"""A split's segments as PyTorch wants them: a dataset, its batches, and their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from genrepro.encoding.parts import Part
from genrepro.encoding.store import Encoded
from genrepro.model.inference import stacked

IGNORED = -100  # a target that cross-entropy and Trainer's count of a batch pass over
Sample = tuple[np.ndarray, int, int]  # what the model is fed, how long its segment is, the target


class Segments(Dataset):
    """A part's segments with their targets, read from the memory map when asked for.

    Index ~i gives segment i with a target that is ignored: it fills a batch and teaches nothing.

    Args:
        lengths: of the segments, where `encoded` holds what a part of the model made of them.
    """

    def __init__(self, encoded: Encoded, part: Part, lengths: list[int] | None = None) -> None:
        self.encoded, self.part, self.lengths = encoded, part, lengths

    def __len__(self) -> int:
        return len(self.part.rows)

    def __getitem__(self, index: int) -> Sample:
        if index < 0:
            return *self[~index][:2], IGNORED
        features = self.encoded[self.part.rows[index]]
        length = len(features) if self.lengths is None else self.lengths[index]
        return features, length, self.part.targets[self.part.clip_of[index]]


@dataclass(frozen=True)
class Collator:
    """Stack segments into one float32 batch, zero-padded along the only axis that may differ.

    Segments of unequal length also get an attention mask, as in the course; equal ones need none.
    Only waveforms can be unequal: spectrograms are filled up by their feature extractors.
    """

    input_name: str

    def __call__(self, samples: list[Sample]) -> dict[str, torch.Tensor]:
        arrays, lengths, targets = zip(*samples)
        inputs = {self.input_name: stacked(arrays), "labels": torch.tensor(targets)}
        if min(lengths) < max(lengths):
            inside = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
            inputs["attention_mask"] = inside.long()
        return inputs


class Shuffled(Sampler[int]):
    """An order of its own for each epoch, from the seed alone, so that it can be gone on with.

    Several ranks take turns at its batches. It is filled up to a multiple of what they take at
    once, so that all have the same number of batches, and learn from the clips of one process.
    """

    def __init__(self, size: int, seed: int, multiple: int = 1) -> None:
        self.size, self.seed, self.epoch = size, seed, 0
        self.filling = -size % multiple

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size + self.filling

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(self.size).tolist()
        return iter(order + [~order[-1]] * self.filling)
