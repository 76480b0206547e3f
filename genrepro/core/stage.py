"""How a stage or tool runs: its errors, its lock, its log, and the time and memory that it takes.

Nothing here imports torch or transformers: a stage that only moves files starts at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from genrepro.core import paths, processes
from genrepro.core.errors import PipelineError, explain
from genrepro.core.files import write_json

INTERRUPTED = "error: interrupted; run the same command again to resume."
RANK_0_FIRST = 10.0  # seconds within which rank 0 reports an error that all ranks have


def run(main: Callable[[], object]) -> None:
    """Run `main`; an error that a person can fix ends it with its message and exit code 1."""
    _set_up_process()
    try:
        main()
    except PipelineError as error:
        _exit(f"error: {error}")
    except KeyboardInterrupt:
        # A launcher stops all ranks when one fails, which has printed why.
        sys.exit(1 if processes.launched() else INTERRUPTED)
    except Exception as error:
        if sentence := explain(error):
            _exit(f"error: {sentence}")
        raise


def _exit(message: str) -> NoReturn:
    """Exit with a message. Where all ranks fail alike, rank 0 has the launcher end the others."""
    if processes.launched():
        if processes.rank():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(RANK_0_FIRST)
        print(message, file=sys.stderr, flush=True)
        os._exit(1)  # at once: with torch, Python takes seconds to close down
    sys.exit(message)


def _set_up_process() -> None:
    """What would otherwise be a side effect of an import: signals, and how much libraries print."""
    signal.signal(signal.SIGTERM, _interrupt)
    if "DVC_STAGE" in os.environ or processes.launched():  # DVC sets it for a stage's command
        processes.end_with_parent()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # each retry; the outcome is reported here
    if transformers := sys.modules.get("transformers"):
        transformers.logging.set_verbosity_error()
    # Segments are copied from a read-only memory map, and never written back to it.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def record_speed(stage: str) -> Iterator[dict[str, object]]:
    """Write the seconds and the peak memory of the block to metrics/speed/<stage>.json.

    Yields a dict to which the block adds figures of its own. Nothing depends on these files.
    In an experiment they are also kept under its name, for `make experiments`.
    Under a launcher, rank 0 takes the stage's lock and writes its own figures.
    """
    figures: dict[str, object] = {}
    if processes.rank():
        yield figures
        return
    start = time.perf_counter()
    with _lock(stage):
        yield figures
    seconds = time.perf_counter() - start
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in both)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss counts bytes on macOS, KiB on Linux
    common = {"seconds": round(seconds, 2), "peak_memory_mb": round(peak * unit / 1e6)}
    for folder in _speed_folders():
        write_json(folder / f"{stage}.json", common | figures)


def _speed_folders() -> list[Path]:
    """The workspace's, and the experiment's in the repository: DVC runs a queued experiment in a
    temporary copy, and names both in the environment of its stages."""
    experiment = os.environ.get("DVC_EXP_NAME")
    repository = Path(os.environ.get("DVC_ROOT", ""))
    return [paths.SPEED, *([repository / paths.SPEED / experiment] if experiment else [])]


@contextlib.contextmanager
def _lock(stage: str) -> Iterator[None]:
    """Wait while another process runs this stage in this folder, where drafts have fixed names.

    The kernel releases the lock when its process ends, however that ends.
    """
    paths.UNFINISHED.mkdir(exist_ok=True)
    with (paths.UNFINISHED / f"{stage}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"another process runs {stage} in this folder: waiting for it to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def log(line: str) -> None:
    """Print a line at once, also into a pipe; under a launcher, rank 0 alone prints."""
    if processes.rank() == 0:
        print(line, flush=True)
