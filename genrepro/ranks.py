"""Which of a launcher's processes this is, from the environment that torchrun and accelerate set.

A process that no launcher started is rank 0 of 1. Nothing here imports torch.
"""

from __future__ import annotations

import os


def launched() -> bool:
    """Whether a launcher started this process: the sign that accelerate goes by, too."""
    return "LOCAL_RANK" in os.environ


def rank() -> int:
    """This process' number among all, on all machines. Rank 0 speaks and writes for the others."""
    return _told("RANK", 0)


def world() -> int:
    """How many processes there are, on all machines."""
    return _told("WORLD_SIZE", 1)


def local_world() -> int:
    """How many of them share this machine."""
    return _told("LOCAL_WORLD_SIZE", 1)


def _told(name: str, alone: int) -> int:
    return int(os.environ.get(name, alone)) if launched() else alone
