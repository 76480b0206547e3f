"""Errors that a person can fix, and how the errors of the libraries become one of them."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path


class PipelineError(Exception):
    """Something that a person can fix. Its text says what is wrong, where, and what to do next."""


def one_line(error: object, most: int = 150) -> str:
    """A library's message for use inside a sentence: one line, without its full stop."""
    words = " ".join(str(error).split())[:most].rstrip(". ")
    return words or type(error).__name__


def explain(error: Exception) -> str | None:
    """One sentence for an error that is the machine's and not the program's, else None."""
    if isinstance(error, ModuleNotFoundError):
        return missing_package(error)
    if _out_of_memory(error):
        return (
            "out of memory: set GENREPRO_WORKERS=1, a smaller train.batch_size or a shorter "
            "encode.segment_seconds."
        )
    if code := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors reports it in its text
        error = OSError(int(code[1]), "")
    elif "unexpected pos" in str(error):  # torch.save on a full disk
        error = OSError(errno.ENOSPC, "")
    if not isinstance(error, OSError) or error.errno not in _DISK_ERRORS:
        return None
    place = error.filename2 or error.filename or Path.cwd()  # a failed copy names its source first
    return (
        f"{place}: {os.strerror(error.errno).lower()}; {_DISK_ERRORS[error.errno]}, then run the "
        "same command again."
    )


def missing_package(error: ModuleNotFoundError) -> str | None:
    """One sentence for a Python without the locked packages, else None: the module is our own."""
    package = (error.name or "").split(".")[0]
    if package in ("", "genrepro", "stages", "tools"):
        return None
    return (
        f"the package {package} is not installed for {sys.executable}: type `make install` once, "
        "then `source .venv/bin/activate` in each new terminal, and the same command again."
    )


_DISK_ERRORS = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space",
    errno.EFBIG: "raise the limit on file sizes (`ulimit -f`)",
    errno.EROFS: "make it writable",
    errno.EACCES: "change its permissions",
    errno.EPERM: "make it writable",
}


def _out_of_memory(error: Exception) -> bool:
    words = ("DefaultCPUAllocator: can't allocate memory", "CUDA out of memory")
    return isinstance(error, MemoryError) or any(each in str(error) for each in words)
