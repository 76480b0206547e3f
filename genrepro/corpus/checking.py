"""What is done to each clip on its own, in worker processes: compose it, or listen to it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soundfile

from genrepro.audio import AudioFault, Inspection, inspect
from genrepro.fingerprint import fingerprint

if TYPE_CHECKING:
    from genrepro.synth import Piece

FINGERPRINT_SECONDS = 120.0  # a copy is known by its first two minutes


class Heard(NamedTuple):
    """A clip that can be used, and its acoustic fingerprint, uint32 (frames,)."""

    inspection: Inspection
    fingerprint: np.ndarray


def listen(path: Path) -> Heard | str:
    """Decode a file to its end; give what it is, or the reason why it is no clip."""
    try:
        found, head = inspect(path, FINGERPRINT_SECONDS)
    except AudioFault as fault:
        return str(fault)
    return Heard(found, fingerprint(head, found.sample_rate))


class Order(NamedTuple):
    """A piece to compose, and the FLAC file to play it into."""

    piece: Piece
    card: dict
    path: Path


def compose(order: Order) -> None:
    """Render a piece into its file, as 16-bit FLAC."""
    from genrepro.synth import render  # scipy.signal takes a second to import

    samples = render(order.piece, order.card)
    flac = io.BytesIO()  # libsndfile does not say that a disk is full
    soundfile.write(flac, samples, order.card["sample_rate"], subtype="PCM_16", format="FLAC")
    order.path.write_bytes(flac.getvalue())
