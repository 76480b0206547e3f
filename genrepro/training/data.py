"""A split's segments as PyTorch reads them: a dataset, the order of an epoch, and its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import recursively_apply
from torch.utils.data import Dataset, Sampler

from genrepro.encoding.parts import Part
from genrepro.encoding.store import Encoded
from genrepro.model.inference import stacked

IGNORED = -100  # a target that cross-entropy and Trainer's count of a batch leave out


class Draw(NamedTuple):
    """One place in an epoch's order: which segment it holds, and whether that counts.

    What does not count fills up the last batches, so that all processes have equally many.
    """

    segment: int
    counts: bool = True
    epoch: int = 0


class Sample(NamedTuple):
    """A segment's features, its length before padding, its target, and where it was drawn.

    The target is the index of a label, or a share for each label.
    """

    features: np.ndarray
    length: int
    target: int | np.ndarray
    draw: Draw = Draw(0)


class Segments(Dataset):
    """A split's segments with their targets, read from the memory map when asked for.

    Args:
        lengths: of the segments, where `encoded` holds the outputs of a model's frozen layers.
    """

    def __init__(self, encoded: Encoded, part: Part, lengths: list[int] | None = None) -> None:
        self.encoded, self.part, self.lengths = encoded, part, lengths

    def __len__(self) -> int:
        return len(self.part.rows)

    def __getitem__(self, draw: Draw) -> Sample:
        features = self.features(draw.segment)
        length = len(features) if self.lengths is None else self.lengths[draw.segment]
        target = self.part.targets[self.part.clip_of[draw.segment]]
        return Sample(features, length, target if draw.counts else IGNORED, draw)

    def features(self, index: int) -> np.ndarray:
        return self.encoded[self.part.rows[index]]


class Shuffled(Sampler[Draw]):
    """An order of its own for each epoch, from the seed alone, so that it can be resumed.

    Several processes take turns at its batches. It is filled up to a multiple of what they take
    at once, so that all have the same number of batches and together train on the clips that a
    single process would.
    """

    def __init__(self, size: int, seed: int, multiple: int = 1) -> None:
        self.size, self.seed, self.epoch = size, seed, 0
        self.fillers = -size % multiple

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size + self.fillers

    def __iter__(self) -> Iterator[Draw]:
        random = np.random.default_rng([self.seed, self.epoch])
        permutation = random.permutation(self.size).tolist()
        order = [Draw(index, epoch=self.epoch) for index in permutation]
        return iter(order + [order[-1]._replace(counts=False)] * self.fillers)


@dataclass(frozen=True)
class Collator:
    """Stack segments into one batch, zero-padded along the only axis that may differ.

    Segments of unequal length also get an attention mask, as in the course; equal ones need none.
    Only waveforms can be unequal: feature extractors pad spectrograms themselves.

    Args:
        pad: False for a model that would normalise over the padding, and so be trained on other
            features than it is evaluated on: unequal segments then become several batches, under
            EQUAL, of segments of one length each.
        dtype: of the stacked features.
        augment: changes the samples first.
    """

    input_name: str
    pad: bool = True
    dtype: torch.dtype = torch.float32
    augment: Callable[[list[Sample]], list[Sample]] | None = None

    EQUAL = "equal_lengths"

    def __call__(self, samples: list[Sample]) -> dict:
        if self.augment is not None:
            samples = self.augment(samples)
        lengths = [sample.length for sample in samples]
        if self.pad or min(lengths) == max(lengths):
            return self._stack(samples)
        by_length = groupby(sorted(samples, key=_length), key=_length)
        batches = [self._stack(list(group)) for _, group in by_length]
        return {"labels": torch.cat([batch["labels"] for batch in batches]), self.EQUAL: batches}

    def _stack(self, samples: list[Sample]) -> dict[str, torch.Tensor]:
        arrays, lengths, targets, _ = zip(*samples)
        inputs = {
            self.input_name: stacked(arrays, self.dtype),
            "labels": torch.from_numpy(np.stack(targets)),
        }
        if min(lengths) < max(lengths):
            inside = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
            inputs["attention_mask"] = inside.long()
        return inputs


def _length(sample: Sample) -> int:
    return sample.length


class Prefetcher:
    """Collate batches in a thread and copy them to the GPU while it computes.

    Features are copied as they are stored, in half precision, from pinned memory and on a stream
    of their own, and become float32 on the GPU.
    """

    def __init__(self, collate: Collator, device: torch.device) -> None:
        self.collate, self.device = collate, device
        self.thread = ThreadPoolExecutor(1)
        self.stream = torch.cuda.Stream(device)

    def __call__(self, samples: list[Sample]) -> Future:
        return self.thread.submit(self._load, samples)

    def _load(self, samples: list[Sample]) -> tuple[dict, torch.cuda.Event]:
        batch = self.collate(samples)
        with torch.cuda.stream(self.stream):
            batch = recursively_apply(self._copy, batch)
            return batch, self.stream.record_event()

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory().to(self.device, non_blocking=True)

    @staticmethod
    def receive(loading: Future) -> dict:
        """The batch, ready for the stream that computes."""
        batch, copied = loading.result()
        computing = torch.cuda.current_stream()
        computing.wait_event(copied)

        def use(tensor: torch.Tensor) -> torch.Tensor:
            tensor.record_stream(computing)  # its memory is reused only after this stream's work
            return tensor.float() if tensor.dtype == torch.float16 else tensor

        return recursively_apply(use, batch)
