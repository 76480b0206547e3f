"""Assign clips to training, validation and test, by one of five protocols.

Pure functions of the clips and a seed. Clips are sorted by name and shuffled by a hash of seed and
name, so no row order, platform or random generator of a library changes a split.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from genrepro.core.errors import PipelineError
from genrepro.splits.balance import balanced_folds, hold_out
from genrepro.splits.clips import SPLITS, Clip, Unit


def resolve(protocol: str, clips: Iterable[Clip], preferred: str | None = None) -> str:
    """The protocol that `auto` selects for these clips; any other is returned as it is.

    Args:
        preferred: what the corpus' card says that it should be.
    """
    if protocol != "auto":
        return protocol
    if preferred:
        return preferred
    clips = list(clips)
    if {"train", "test"} <= {clip.part for clip in clips} <= {"", *SPLITS}:
        return "published"
    return "grouped" if any(clip.group for clip in clips) else "stratified"


def split(
    clips: Iterable[Clip],
    protocol: str,
    *,
    folds: int,
    fold: int,
    validation: float,
    seed: int,
    same: Iterable[tuple[str, str]] = (),
) -> dict[str, str]:
    """Assign each clip to a split.

    Args:
        clips: the corpus, in any order.
        protocol: auto, stratified, grouped, published or course.
        folds: how many folds `stratified` and `grouped` make.
        fold: which fold is the test split; published folds are numbered by sorted name.
        validation: share of the other clips that becomes the validation split.
        seed: of everything but the test split of `course`, which the course draws with 42.
        same: pairs of clips that hold the same recording; `grouped` keeps them in one split.

    Returns:
        clip -> "train", "validation" or "test", sorted by clip, without the clips that a
        published split leaves out.

    Raises:
        PipelineError: a split would lack a label, or the corpus lacks what the protocol needs.
    """
    clips = sorted(clips)
    labels = {clip.label for clip in clips}
    if len(labels) < 2:
        raise PipelineError(
            f"The corpus has {len(labels)} label(s) in {len(clips)} clips: a classifier needs at "
            "least two. Add a folder for another label, or point data.corpus elsewhere."
        )
    protocol = resolve(protocol, clips)
    units = units_of(clips, protocol, same)
    if protocol == "course":
        splits = _course(clips)
    elif protocol == "published":
        splits = _published(clips, fold)
    else:
        held_out = balanced_folds(units, folds, seed)[fold]
        splits = {clip.clip: "train" for clip in clips}
        splits |= {clip.clip: "test" for unit in held_out for clip in unit}
    if "validation" not in splits.values():
        rest = [clip for clip in clips if splits.get(clip.clip) == "train"]
        by_group = "grouped" if protocol == "published" else protocol
        candidates = units_of(rest, by_group, same)
        for clip in hold_out(candidates, validation, seed):
            splits[clip.clip] = "validation"
    _check_labels(clips, splits, protocol, units, list(same))
    return dict(sorted(splits.items()))


def units_of(clips: Sequence[Clip], protocol: str, same: Iterable[tuple[str, str]]) -> list[Unit]:
    """The clips in units that a protocol keeps in one split: `grouped` alone has larger ones."""
    return _linked(clips, same) if protocol == "grouped" else [(clip,) for clip in clips]


def natural(name: str) -> tuple[int, str]:
    """Sort key that puts fold 2 before fold 10, and numbers before words."""
    return (int(name), name) if name.isdecimal() else (2**63, name)


def _course(clips: Sequence[Clip]) -> dict[str, str]:
    """The audio course's `train_test_split(seed=42, shuffle=True, test_size=0.1)`.

    🤗 Datasets permutes the rows with numpy's default generator and takes the first
    ceil(test_size * rows) as the test split (datasets/arrow_dataset.py).
    """
    import numpy as np  # no other protocol needs it

    order = np.random.default_rng(42).permutation(len(clips))
    test = {clips[i].clip for i in order[: math.ceil(0.1 * len(clips))]}
    return {clip.clip: "test" if clip.clip in test else "train" for clip in clips}


def _published(clips: Sequence[Clip], fold: int) -> dict[str, str]:
    """The split that the corpus comes with: by the splits' names, or one of its folds as test."""
    names = {clip.part for clip in clips if clip.part}
    if not names:
        raise PipelineError(
            "split.protocol=published, but this corpus comes without a split: give it in a column "
            "`part` (data.facts) or in data.name_pattern, or use another protocol."
        )
    if names <= set(SPLITS):
        for split in ("train", "test"):
            if split not in names:
                raise PipelineError(
                    f"split.protocol=published, but this corpus publishes no {split} split "
                    f"(only {', '.join(sorted(names))}): use another protocol."
                )
        return {clip.clip: clip.part for clip in clips if clip.part}
    if mixed := names & set(SPLITS):
        raise PipelineError(
            f"The column `part` mixes splits ({', '.join(sorted(mixed))}) with folds "
            f"({', '.join(sorted(names - mixed, key=natural))}): it must hold one or the other."
        )
    ordered = sorted(names, key=natural)
    if len(ordered) < 2 or fold >= len(ordered):
        raise PipelineError(
            f"This corpus publishes {len(ordered)} fold(s), {', '.join(ordered)}: split.fold must "
            f"be 0 to {len(ordered) - 1}, not {fold}, and at least two are needed."
        )
    test = ordered[fold]
    return {clip.clip: "test" if clip.part == test else "train" for clip in clips if clip.part}


def _linked(clips: Sequence[Clip], same: Iterable[tuple[str, str]]) -> list[Unit]:
    """Units of clips that share a group, their bytes or a recording, directly or through others."""
    parent = {clip.clip: clip.clip for clip in clips}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    links = [pair for pair in same if pair[0] in parent and pair[1] in parent]
    first: dict[tuple[str, str], str] = {}
    for clip in clips:
        for fact in (("group", clip.group), ("sha256", clip.sha256)):
            if fact[1]:
                links.append((first.setdefault(fact, clip.clip), clip.clip))
    for a, b in links:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    units = defaultdict(list)
    for clip in clips:
        units[root(clip.clip)].append(clip)
    return [tuple(unit) for unit in units.values()]


def _check_labels(
    clips: Sequence[Clip],
    splits: Mapping[str, str],
    protocol: str,
    units: Sequence[Unit],
    same: Sequence[tuple[str, str]],
) -> None:
    """Refuse an assignment in which a split lacks a label, and say how to fix it."""
    kept = {(clip.label, splits[clip.clip]) for clip in clips if clip.clip in splits}
    missing = sorted({(c.label, split) for c in clips for split in SPLITS} - kept)
    if not missing:
        return
    label, split = missing[0]
    count = _holding(label, units)
    what = "group(s) of clips" if protocol == "grouped" else "clip(s)"
    more = f" ({len(missing) - 1} more such gaps)" if len(missing) > 1 else ""
    if protocol == "course":
        advice = "the course ignores labels when it draws; use split.protocol=auto"
    elif protocol == "published":
        advice = "the published split leaves it out; use split.protocol=auto"
    elif count < len(SPLITS):
        advice = (
            f"the label has {count} {what}, and training, validation and test need one each: "
            "add clips of it, or remove the label"
        )
    else:
        advice = (
            f"the label has {count} {what}: set split.folds to at most {count}, use another "
            "split.fold or seed, or add clips of it"
        )
    if protocol == "grouped" and count < (without := _holding(label, _linked(clips, ()))):
        example = " and ".join(same[0])
        advice += (
            f". It has only {count} and not {without} because the acoustic fingerprint takes "
            f"{len(same)} pair(s) of clips for the same recording, e.g. {example}: "
            "if it is wrong, set split.same_recordings=false"
        )
    raise PipelineError(f"The {split} split has no clip of the label {label!r}{more}; {advice}.")


def _holding(label: str, units: Iterable[Unit]) -> int:
    """The number of units that hold a clip of the label."""
    return sum(any(clip.label == label for clip in unit) for unit in units)
