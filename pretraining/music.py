"""Generated music: what the backbone is pretrained on, and labelled clips to probe it with."""

from __future__ import annotations

import functools

import numpy as np

from genrepro.core.processes import map_processes
from genrepro.corpus.demo import composer

FULL = 2**15  # full scale of 16-bit samples


def unlabelled(card: dict) -> np.ndarray:
    """Render the music of `card`, and forget its genres and bands.

    Returns:
        (clips, samples) int16.
    """
    return labelled(card)[0]


def labelled(card: dict) -> tuple[np.ndarray, list[str], list[str]]:
    """Render the music of `card`.

    Args:
        card: as in corpora/demo/corpus.yaml.

    Returns:
        (clips, samples) int16, and each clip's genre and band.
    """
    pieces = composer.pieces(card)
    waves = map_processes(functools.partial(_render, card), pieces, "composing")
    return np.stack(waves), [piece.label for piece in pieces], [piece.group for piece in pieces]


def _render(card: dict, piece: composer.Piece) -> np.ndarray:
    return (composer.render(piece, card) * FULL).astype(np.int16)
