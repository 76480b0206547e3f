"""Join data/split.csv with the encoded corpus: the clips and rows of each split."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from genrepro.core.errors import PipelineError
from genrepro.encoding.store import Encoded


@dataclass(frozen=True)
class Part:
    """The training, validation or test split: its clips and the rows of their segments."""

    clips: list[str]  # sorted
    targets: list[int]  # the index of each clip's label
    rows: list[int]  # rows of the encoded corpus, clip by clip
    clip_of: list[int]  # the index in `clips` of each of `rows`


def read_parts(split: Path, encoded: Encoded) -> tuple[dict[str, Part], list[str]]:
    """Read which clips and rows of the encoded corpus are in each split.

    Returns:
        The splits "train", "validation" and "test", and all labels, sorted.

    Raises:
        PipelineError: a clip of the split is not encoded.
    """
    with split.open(encoding="utf-8", newline="") as file:
        rows = sorted((row["clip"], row["label"], row["split"]) for row in csv.DictReader(file))
    labels = sorted({label for _, label, _ in rows})
    segments: dict[str, list[int]] = {}
    for row, clip in enumerate(encoded.clip):
        segments.setdefault(clip, []).append(row)
    if missing := [clip for clip, _, _ in rows if clip not in segments]:
        raise PipelineError(
            f"{len(missing)} clips of {split}, such as {missing[0]}, are not in data/encoded; "
            "type `dvc repro`, which encodes them."
        )
    return {
        part: _part([(clip, label) for clip, label, of in rows if of == part], labels, segments)
        for part in ("train", "validation", "test")
    }, labels


def label_counts(parts: Iterable[Part]) -> Counter[int]:
    """The number of clips of each label in these splits, by the label's index."""
    return Counter(target for part in parts for target in part.targets)


def is_unequal(parts: Iterable[Part]) -> bool:
    """Whether the largest label has over three times the clips of the smallest.

    Accuracy then says little about the rare labels, and is reported together with macro F1.
    """
    counts = label_counts(parts).values()
    return max(counts) > 3 * min(counts)


def _part(pairs: list[tuple[str, str]], labels: list[str], segments: dict[str, list[int]]) -> Part:
    rows = [(row, index) for index, (clip, _) in enumerate(pairs) for row in segments[clip]]
    return Part(
        clips=[clip for clip, _ in pairs],
        targets=[labels.index(label) for _, label in pairs],
        rows=[row for row, _ in rows],
        clip_of=[index for _, index in rows],
    )
