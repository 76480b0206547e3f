"""Keep an earlier split while the corpus grows, so that accuracies before and after compare."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from genrepro.splits.clips import SPLITS, Unit


def read_split(path: Path) -> dict[str, str]:
    """Clip -> split, as `to_csv` wrote it; nothing if there is no such file."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["clip"]: row["split"] for row in csv.DictReader(file)}


def keep(
    units: Iterable[Unit], fresh: Mapping[str, str], earlier: Mapping[str, str]
) -> dict[str, str]:
    """Leave the clips of an earlier split where they were, and assign the others.

    A new clip goes where the clips of its unit already are (to training, if they are in several
    splits), and otherwise where a fresh split puts it.

    Args:
        units: the clips of the corpus, in units that the protocol keeps together.
        fresh: the split that would be made of the corpus without an earlier one.
        earlier: clip -> split. Clips that are no longer in the corpus are ignored.

    Returns:
        clip -> split, sorted by clip.
    """
    splits = {}
    for unit in units:
        taken = {earlier[clip.clip] for clip in unit if clip.clip in earlier}
        joined = next((split for split in SPLITS if split in taken), None)
        for clip in unit:
            if clip.clip in fresh:
                splits[clip.clip] = earlier.get(clip.clip, joined or fresh[clip.clip])
    return dict(sorted(splits.items()))
