"""The same work on many items, over processes; the results come in the items' order."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from genrepro.runtime import PipelineError, workers

Item = TypeVar("Item")
Result = TypeVar("Result")


def mapped(
    function: Callable[[Item], Result], items: Sequence[Item], what: str, *, fork: bool = False
) -> list[Result]:
    """Apply a top-level `function` to each item, with a progress bar named `what`.

    The number of processes is runtime.workers(); it changes the seconds and nothing else.

    Args:
        fork: start processes with what this one has imported, where the system can. Only for a
            caller that has started no threads: a fork that holds Arrow's, say, can hang.

    Raises:
        PipelineError: a process died, mostly for want of memory.
    """
    count = workers()
    if min(count, len(items)) <= 1:
        return list(_shown(map(function, items), len(items), what))
    try:
        return list(_shown(_pool(count).map(function, items, chunksize=4), len(items), what))
    except BrokenProcessPool:
        raise PipelineError(
            f"{what}: a worker process died, mostly for want of memory; "
            "run again with GENREPRO_WORKERS=1."
        ) from None


@functools.cache  # a process takes a second to start: kept for the next piece of work
def _pool(count: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a fork of a process that holds threads (Arrow's, say) can hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)


def _shown(results: Iterable[Result], total: int, what: str) -> Iterator[Result]:
    return tqdm(results, total=total, desc=what, disable=None, mininterval=0.5)


def _start_worker() -> None:
    """Use one thread, leave Ctrl-C to the parent, and end with it even if it is killed."""
    threadpool_limits(1)  # a process a core is enough, and threads of its own would fight for them
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
