"""Decode and fingerprint one file, in a worker process."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from genrepro.audio import AudioFault, Inspection, inspect
from genrepro.corpus.fingerprint import fingerprint

FINGERPRINT_SECONDS = 120.0  # a copy is recognised by its first two minutes


class Inspected(NamedTuple):
    """A usable clip, and its acoustic fingerprint, uint32 (frames,)."""

    inspection: Inspection
    fingerprint: np.ndarray


def inspect_clip(path: Path) -> Inspected | str:
    """Decode a whole file; return what it holds, or the reason why it cannot be a clip."""
    try:
        found, head = inspect(path, FINGERPRINT_SECONDS)
    except AudioFault as fault:
        return str(fault)
    return Inspected(found, fingerprint(head, found.sample_rate))
