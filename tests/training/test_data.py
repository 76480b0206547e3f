"""Batches: padded, or of equal lengths, or made in another thread for a GPU."""

import contextlib
import threading

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from genrepro.training.data import Collator, Prefetcher, Sample


def sample(length: int, target: int = 0) -> Sample:
    return Sample(np.arange(1, length + 1, dtype=np.float16), length, target)


def test_unequal_waveforms_are_padded_and_masked_and_equal_ones_are_not():
    collate = Collator("input_values")
    batch = collate([sample(10, 0), sample(7, 1)])
    assert batch["input_values"].dtype == torch.float32
    assert (batch["input_values"] > 0).sum(dim=1).tolist() == [10, 7]
    assert batch["attention_mask"].sum(dim=1).tolist() == [10, 7]
    assert batch["labels"].tolist() == [0, 1]
    assert "attention_mask" not in collate([sample(10), sample(10)])


def test_unequal_waveforms_become_batches_of_equal_lengths_where_nothing_may_be_padded():
    collate = Collator("input_values", pad=False)
    batch = collate([sample(7, 0), sample(9, 1), sample(7, 2)])
    assert sorted(batch["labels"].tolist()) == [0, 1, 2]
    shapes = [tuple(each["input_values"].shape) for each in batch[Collator.EQUAL]]
    assert shapes == [(2, 7), (1, 9)]
    assert [each["labels"].tolist() for each in batch[Collator.EQUAL]] == [[0, 2], [1]]
    assert Collator.EQUAL not in collate([sample(7), sample(7)])


@pytest.mark.parametrize("pad", [True, False])
def test_prefetched_batches_are_the_same_and_are_made_in_another_thread(monkeypatch, pad):
    """With stand-ins for CUDA's streams; tests/training/test_gpu.py has the real ones."""
    threads = set()

    class Stream:
        def __init__(self, device=None):
            pass

        def record_event(self):
            threads.add(threading.get_ident())

        def wait_event(self, event):
            pass

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    samples = [sample(5 + n % 3, n) for n in range(10)]
    half = Prefetcher(Collator("input_values", pad, torch.float16), torch.device("cpu"))
    batches = map(Prefetcher.receive, DataLoader(samples, batch_size=4, collate_fn=half))
    expected = DataLoader(samples, batch_size=4, collate_fn=Collator("input_values", pad))
    for one, two in zip(batches, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert threads and threading.get_ident() not in threads
