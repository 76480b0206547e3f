"""How a stage runs: errors for people, outputs that appear whole or not at all, measured seconds.

Nothing here imports torch or transformers: a stage that only moves files starts at once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SPEED_DIR = Path("metrics/speed")


class PipelineError(Exception):
    """Something that a person can mend. Its text says what is wrong, where, and what to do next."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's or tool's `main`; end a mendable error with one sentence and exit code 1."""
    try:
        main()
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted; the same command goes on from here.")
    except MemoryError:
        sys.exit("error: out of memory; set GENREPRO_WORKERS=1, or use shorter segments.")
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = error.filename or "the disk"
        sys.exit(f"error: {where}: {_DISK_ERRORS[error.errno]}, then run the same command again.")


_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the disk quota is used up; make room",
    errno.EROFS: "the file system is read-only; make it writable",
    errno.EACCES: "permission denied; change the permissions",
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
        shutil.rmtree(path)
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
    """
    figures: dict[str, object] = {}
    start = time.perf_counter()
    yield figures
    seconds = time.perf_counter() - start
    peak = max(resource.getrusage(who).ru_maxrss for who in _SELF_AND_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss counts bytes on macOS, KiB on Linux
    common = {"seconds": round(seconds, 2), "peak_memory_mb": round(peak * unit / 1e6)}
    write_json(SPEED_DIR / f"{stage}.json", common | figures)


_SELF_AND_CHILDREN = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def workers() -> int:
    """How many processes to use: GENREPRO_WORKERS, or every core this process may run on.

    Raises:
        PipelineError: GENREPRO_WORKERS is not a whole number of at least 1.
    """
    asked = os.environ.get("GENREPRO_WORKERS", "")
    if not asked:
        can_ask = hasattr(os, "sched_getaffinity")  # Linux
        return len(os.sched_getaffinity(0)) if can_ask else os.cpu_count() or 1
    if not asked.isdecimal() or int(asked) < 1:
        raise PipelineError(f"GENREPRO_WORKERS must be a whole number from 1, not {asked!r}.")
    return int(asked)


def say(line: str) -> None:
    """Print a line of progress at once, also into a pipe."""
    print(line, flush=True)
