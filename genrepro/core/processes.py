"""The processes of a stage: those that a launcher started, and a pool of workers for many items."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from genrepro.core.errors import PipelineError

Item = TypeVar("Item")
Result = TypeVar("Result")

PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def launched() -> bool:
    """Whether a launcher (torchrun, accelerate) started this process."""
    return "LOCAL_RANK" in os.environ


def rank() -> int:
    """This process's number among all, on all machines. Rank 0 logs and writes for the others."""
    return _from_launcher("RANK", 0)


def world() -> int:
    """The number of processes, on all machines."""
    return _from_launcher("WORLD_SIZE", 1)


def local_world() -> int:
    """The number of processes on this machine."""
    return _from_launcher("LOCAL_WORLD_SIZE", 1)


def _from_launcher(name: str, alone: int) -> int:
    return int(os.environ.get(name, alone)) if launched() else alone


def workers() -> int:
    """The number of worker processes: GENREPRO_WORKERS, else the cores that this process may use,
    shared with the other processes that a launcher started here.

    Raises:
        PipelineError: GENREPRO_WORKERS is not a whole number of at least 1.
    """
    asked = os.environ.get("GENREPRO_WORKERS", "")
    if not asked:
        can_ask = hasattr(os, "sched_getaffinity")  # Linux
        cores = len(os.sched_getaffinity(0)) if can_ask else os.cpu_count() or 1
        return max(1, cores // local_world())
    if not asked.isdecimal() or int(asked) < 1:
        raise PipelineError(f"GENREPRO_WORKERS must be a whole number from 1, not {asked!r}.")
    return int(asked)


def map_processes(
    function: Callable[[Item], Result], items: Sequence[Item], what: str, *, fork: bool = False
) -> list[Result]:
    """Apply a top-level `function` to each item, with a progress bar named `what`.

    The number of processes is `workers()`; it changes the time and nothing else.

    Args:
        fork: start the processes with what this one has imported, on Linux. Only for a caller that
            has computed nothing in threads: a fork that holds Arrow's, for example, can hang.

    Returns:
        The results in the order of the items.

    Raises:
        PipelineError: a process died, usually because memory ran out.
    """
    count = workers()
    if min(count, len(items)) <= 1:
        return list(_with_progress(map(function, items), len(items), what))
    pool = _pool(count, "fork" if fork and sys.platform == "linux" else "spawn")
    chunk = max(1, min(4, len(items) // (4 * count)))  # small, so that all have work to the end
    try:
        with _signals_blocked():  # the workers inherit it: this process stops them
            # Not `pool.map`, which cancels what is pending: killing the workers then ends in a
            # traceback of the pool's own thread (Python 3.11).
            starts = range(0, len(items), chunk)
            jobs = [pool.submit(_apply, function, items[at : at + chunk]) for at in starts]
        results = itertools.chain.from_iterable(job.result() for job in jobs)
        return list(_with_progress(results, len(items), what))
    except BrokenProcessPool:
        _stop_workers()
        raise PipelineError(
            f"{what}: a worker process died, usually because memory ran out; "
            "run again with GENREPRO_WORKERS=1."
        ) from None
    except BaseException:
        _stop_workers()  # Python would wait for the items that they have started
        raise


def _apply(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Hold back Ctrl-C, which a terminal sends to all processes, and SIGTERM."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask the kernel for a signal when the process that started this one ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


@functools.cache  # a process takes a second to start: kept for the next call
def _pool(count: int, method: str) -> ProcessPoolExecutor:
    context = multiprocessing.get_context(method)
    return ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    """Use one thread, and end with the parent even if it is killed."""
    threadpool_limits(1)  # a process per core is enough; threads of its own would compete for it
    end_with_parent(signal.SIGKILL)


def _stop_workers() -> None:
    for process in multiprocessing.active_children():
        process.kill()
    _pool.cache_clear()


def _with_progress(results: Iterable[Result], total: int, what: str) -> Iterator[Result]:
    disable = True if rank() else None  # None: shown on a terminal only
    return iter(tqdm(results, total=total, desc=what, disable=disable, mininterval=0.5))
