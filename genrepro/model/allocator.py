"""Where a batch's tensors get their memory, which costs as much as a third of a training step.

glibc hands blocks of many megabytes back to the kernel as soon as they are free. The next tensor of
that size gets them again, page by page and filled with zeros.
"""

from __future__ import annotations

import ctypes
import functools
import platform

# From malloc.h; described in mallopt(3).
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
NEVER = 2**31 - 1  # bytes free at the end of the heap

_last: tuple[int, ...] | None = None


def keep_freed_memory(shape: tuple[int, ...]) -> None:
    """Before a batch is computed: keep what is freed while batches have one shape.

    Before one of another shape all is given back: its tensors would not fit the gaps, and a corpus
    of clips of all lengths would take twice the memory. Results are the same either way. Does
    nothing where the C library is another than glibc.
    """
    global _last
    if (libc := _glibc()) and _last not in (None, shape):
        libc.malloc_trim(0)
    _last = shape


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    return libc
