"""Barriers for the processes that a launcher started.

A launcher (torchrun, or accelerate, which uses it) ends all processes when one of them fails, so
nothing here waits for a process that has died.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator

from torch import distributed

from genrepro.core.processes import rank, world

POLL = 0.1  # seconds


def barrier(name: str) -> None:
    """Wait until all ranks have reached the barrier of this name."""
    if world() == 1:
        return
    _store().set(f"{name}/{rank()}", "here")
    everyone = [f"{name}/{each}" for each in range(world())]
    while not _store().check(everyone):  # the store's own `wait` would hold signals back
        time.sleep(POLL)


@contextlib.contextmanager
def rank_0_first(name: str) -> Iterator[None]:
    """Run the block on rank 0, and then on the others."""
    if rank():
        barrier(name)
    yield
    if rank() == 0:
        barrier(name)


@functools.cache
def _store() -> distributed.Store:
    """The launcher's key-value store, which all ranks share."""
    store, _, _ = next(distributed.rendezvous("env://"))
    return distributed.PrefixStore("genrepro", store)
