"""How a stage runs: errors for people, outputs that appear whole or not at all, measured seconds.

Nothing here imports torch or transformers: a stage that only moves files starts at once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from genrepro import interrupts, ranks

SPEED_DIR = Path("metrics/speed")
WORK_DIR = Path(".resume")  # unfinished work and locks; not in Git, and no output of a stage


class PipelineError(Exception):
    """Something that a person can mend. Its text says what is wrong, where, and what to do next."""


def in_a_line(error: object, most: int = 150) -> str:
    """A library's words for what went wrong, fit to stand inside a sentence of ours."""
    words = " ".join(str(error).split())[:most].rstrip(". ")
    return words or type(error).__name__


def run(main: Callable[[], None]) -> None:
    """Run a stage's or tool's `main`; end a mendable error with one sentence and exit code 1."""
    before = {number: signal.signal(number, _interrupt) for number in interrupts.SIGNALS}
    _end_with_dvc()
    try:
        main()
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(interrupts.SENTENCE)
    except Exception as error:
        if _lacks_memory(error):
            sys.exit(
                "error: out of memory; set GENREPRO_WORKERS=1, a smaller train.batch_size or a "
                "shorter encode.segment_seconds."
            )
        if fault := _disk_fault(error):
            sys.exit(f"error: {fault}, then run the same command again.")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _end_with_dvc() -> None:
    """Stop as on SIGTERM once the `dvc` that started this stage is gone, if one did."""
    dvc = os.getppid()

    def watch() -> None:
        while os.getppid() == dvc:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    if "DVC_STAGE" in os.environ:  # DVC sets it for a stage's command
        threading.Thread(target=watch, daemon=True).start()


def _lacks_memory(error: Exception) -> bool:
    torchs = ("DefaultCPUAllocator: can't allocate memory", "CUDA out of memory")
    return isinstance(error, MemoryError) or any(words in str(error) for words in torchs)


def _disk_fault(error: Exception) -> str | None:
    """What is wrong with which disk and what to do, if that is behind an error."""
    if code := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors'
        error = OSError(int(code[1]), "")
    elif "unexpected pos" in str(error):  # torch.save's
        error = OSError(errno.ENOSPC, "")
    if not isinstance(error, OSError) or error.errno not in _DISK_ERRORS:
        return None
    place = error.filename2 or error.filename  # a failed copy names its source first
    free = shutil.disk_usage(_folder_of(place or ".")).free / 1e6
    return f"{place or Path.cwd()}: {_DISK_ERRORS[error.errno].format(free=free)}"


def _folder_of(place: str | bytes) -> Path:
    return next(path for path in Path(os.fsdecode(place), "x").absolute().parents if path.is_dir())


_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full ({free:.1f} MB are free now); make room",
    errno.EDQUOT: "the disk quota is used up; make room",
    errno.EFBIG: "no file may grow so large here; raise the limit (`ulimit -f`)",
    errno.EROFS: "the file system is read-only; make it writable",
    errno.EACCES: "permission denied; change the permissions",
    errno.EPERM: "this may not be changed; make it writable",  # an immutable folder
}


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write a file or folder to; move it into place at the end.

    If the block raises, `target` stays as it was and what was written is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.part")
    remove(draft)
    try:
        yield draft
        remove(target)
        draft.replace(target)
    finally:
        remove(draft)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path)
        except OSError as error:
            error.filename = str(path)  # it names a file in it, without its folder
            raise
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    with staged(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: object) -> None:
    """Write JSON that reads well in a diff: indented, in the given order, with a last newline."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def measured(stage: str) -> Iterator[dict[str, object]]:
    """Write the seconds and peak memory of the block to metrics/speed/<stage>.json.

    Yields a dict to which the block adds figures of its own. Nothing depends on these files.
    Of a launcher's processes, rank 0 takes the stage's lock and writes its own figures.
    """
    figures: dict[str, object] = {}
    if ranks.rank():
        yield figures
        return
    start = time.perf_counter()
    with _alone(stage):
        yield figures
    seconds = time.perf_counter() - start
    peak = max(resource.getrusage(who).ru_maxrss for who in _SELF_AND_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss counts bytes on macOS, KiB on Linux
    common = {"seconds": round(seconds, 2), "peak_memory_mb": round(peak * unit / 1e6)}
    write_json(SPEED_DIR / f"{stage}.json", common | figures)


@contextlib.contextmanager
def _alone(stage: str) -> Iterator[None]:
    """Wait while another process runs this stage in this folder: drafts have fixed names.

    The lock ends with its process, however that ends.
    """
    WORK_DIR.mkdir(exist_ok=True)
    with (WORK_DIR / f"{stage}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process runs {stage} in this folder: waiting for it to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


_SELF_AND_CHILDREN = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def workers() -> int:
    """How many processes to use: GENREPRO_WORKERS, or every core this process may run on, shared
    with the others that a launcher started here.

    Raises:
        PipelineError: GENREPRO_WORKERS is not a whole number of at least 1.
    """
    asked = os.environ.get("GENREPRO_WORKERS", "")
    if not asked:
        can_ask = hasattr(os, "sched_getaffinity")  # Linux
        cores = len(os.sched_getaffinity(0)) if can_ask else os.cpu_count() or 1
        return max(1, cores // ranks.local_world())
    if not asked.isdecimal() or int(asked) < 1:
        raise PipelineError(f"GENREPRO_WORKERS must be a whole number from 1, not {asked!r}.")
    return int(asked)


def say(line: str) -> None:
    """Print a line of progress at once, also into a pipe; under a launcher, rank 0 alone does."""
    if ranks.rank() == 0:
        print(line, flush=True)
