"""Reuse of freed memory between training steps, which saves up to a third of a step on a CPU.

glibc returns blocks of many megabytes to the kernel as soon as they are freed. The next tensor of
that size gets them back page by page, filled with zeros.
"""

from __future__ import annotations

import ctypes
import functools
import platform

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

# From malloc.h; described in mallopt(3).
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
NEVER = 2**31 - 1  # bytes free at the end of the heap


def keep_freed_memory() -> None:
    """Let this process keep what it frees. Does nothing where the C library is not glibc."""
    if libc := _glibc():
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def release_between_shapes(model: nn.Module) -> RemovableHandle:
    """Return what was kept to the kernel whenever `model` gets an input of a new shape.

    Tensors of another shape do not fit the gaps: clips of many lengths would take twice the memory.
    """
    return model.register_forward_pre_hook(_ReleaseBeforeNewShape(), with_kwargs=True)


class _ReleaseBeforeNewShape:
    def __init__(self) -> None:
        self.shape: torch.Size | None = None

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, object]) -> None:
        if torch.compiler.is_compiling():  # an export to ONNX, whose shapes are symbols
            return
        shape = next(each.shape for each in (*args, *kwargs.values()) if torch.is_tensor(each))
        if self.shape not in (None, shape) and (libc := _glibc()):
            libc.malloc_trim(0)
        self.shape = shape


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
