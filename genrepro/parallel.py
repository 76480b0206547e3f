"""The same work on many items, over processes; the results come in the items' order."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from genrepro import ranks
from genrepro.runtime import PipelineError, workers

Item = TypeVar("Item")
Result = TypeVar("Result")


def mapped(
    function: Callable[[Item], Result], items: Sequence[Item], what: str, *, fork: bool = False
) -> list[Result]:
    """Apply a top-level `function` to each item, with a progress bar named `what`.

    The number of processes is runtime.workers(); it changes the seconds and nothing else.

    Args:
        fork: start processes with what this one has imported, on Linux. Only for a caller that
            has computed nothing in threads: a fork that holds Arrow's, say, can hang.

    Raises:
        PipelineError: a process died, mostly for want of memory.
    """
    count = workers()
    if min(count, len(items)) <= 1:
        return list(_shown(map(function, items), len(items), what))
    pool = _pool(count, "fork" if fork and sys.platform == "linux" else "spawn")
    chunk = max(1, min(4, len(items) // (4 * count)))  # small enough that all have work to the end
    try:
        with _signals_held_back():  # the processes that map starts keep them so, to their end
            results = pool.map(function, items, chunksize=chunk)
        return list(_shown(results, len(items), what))
    except BrokenProcessPool:
        _stop_workers()
        raise PipelineError(
            f"{what}: a worker process died, mostly for want of memory; "
            "run again with GENREPRO_WORKERS=1."
        ) from None
    except BaseException:
        _stop_workers()  # Python would wait for what they have begun
        raise


@functools.cache  # a process takes a second to start: kept for the next piece of work
def _pool(count: int, method: str) -> ProcessPoolExecutor:
    context = multiprocessing.get_context(method)
    return ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Ctrl-C and SIGTERM often go to all processes of a group: the first one ends the others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _stop_workers() -> None:
    for process in multiprocessing.active_children():
        process.kill()
    _pool.cache_clear()


def _shown(results: Iterable[Result], total: int, what: str) -> Iterator[Result]:
    quiet = True if ranks.rank() else None  # None: shown on a terminal alone
    return tqdm(results, total=total, desc=what, disable=quiet, mininterval=0.5)


def _start_worker() -> None:
    """Use one thread, and end with the parent even if it is killed."""
    threadpool_limits(1)  # a process a core is enough, and threads of its own would fight for them
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
