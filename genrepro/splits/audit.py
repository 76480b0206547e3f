"""Audit a split for leaks: test clips that the model has in effect already seen.

A test clip leaks if the training or validation split holds a clip of the same group (artist, band,
speaker), with the same bytes, or of the same recording. A validation clip leaks if the training
split does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist

from genrepro.core.errors import PipelineError
from genrepro.splits.clips import SPLITS, Clip

_EARLIER = {"validation": ("train",), "test": ("train", "validation")}
_KINDS = {
    "groups": "share their group with a clip",
    "titles": "share their group and title with a clip",
    "identical": "are byte for byte a clip",
    "near_identical": "hold the same recording as a clip",
}
_SHOWN = 3  # examples of each leak in a message; metrics/split.json lists all


def audit(
    clips: Iterable[Clip], splits: Mapping[str, str], near: Iterable[tuple[str, str]] | None = ()
) -> dict[str, object]:
    """Count and name the leaks of a split.

    Args:
        clips: the whole corpus.
        splits: clip -> split, as genrepro.splits.protocols.split returns it.
        near: pairs of clips that hold the same recording; None if recordings were not compared.

    Returns:
        The content of metrics/split.json. `clips` and `labels` count clips per split,
        `known_groups` those with a known group, and `left_out` those in no split. `missing` lists
        the labels that a split lacks. `leaks` counts the test and validation clips that leak, by
        kind, and `evidence` names each with a clip that it leaks from. `smallest_difference` is
        that of the test clips.
    """
    clips = sorted(clips)
    kept = [clip for clip in clips if clip.clip in splits]
    labels = {label: dict.fromkeys(SPLITS, 0) for label in sorted({clip.label for clip in clips})}
    groups = dict.fromkeys(SPLITS, 0)
    for clip in kept:
        labels[clip.label][splits[clip.clip]] += 1
        groups[splits[clip.clip]] += bool(clip.group)
    totals = {split: sum(row[split] for row in labels.values()) for split in SPLITS}
    leaks = {
        "groups": _sharing(kept, splits, lambda clip: clip.group),
        "titles": _sharing(kept, splits, _work),
        "identical": _sharing(kept, splits, lambda clip: clip.sha256),
    }
    if near is not None:
        leaks["near_identical"] = _paired(near, splits)
    return {
        "clips": totals,
        "left_out": len(clips) - len(kept),
        "known_groups": groups,
        "smallest_difference": round(smallest_difference(totals["test"]), 4),
        "leaks": {
            split: {kind: sum(splits[c] == split for c in found) for kind, found in leaks.items()}
            for split in ("test", "validation")
        },
        "labels": labels,
        "missing": [
            f"{x} in {split}" for x, row in labels.items() for split in row if not row[split]
        ],
        "evidence": {
            kind: [f"{a} in {splits[a]}, {b} in {splits[b]}" for a, b in sorted(found.items())]
            for kind, found in leaks.items()
        },
    }


def check(report: Mapping, protocol: str) -> list[str]:
    """Return a warning for each kind of leak.

    Raises:
        PipelineError: something leaks although the protocol is `grouped`, which rules that out.
    """
    found = []
    for split, kinds in report["leaks"].items():
        for kind, count in kinds.items():
            if count:
                pairs = [pair for pair in report["evidence"][kind] if f" in {split}, " in pair]
                shown = "; ".join(pairs[:_SHOWN]) + ("; …" if len(pairs) > _SHOWN else "")
                where = " or ".join(_EARLIER[split])
                found.append(
                    f"{count} of {report['clips'][split]} {split} clips {_KINDS[kind]} in {where} "
                    f"({shown})"
                )
    if found and protocol == "grouped":
        raise PipelineError(
            "The grouped split leaks, which must not happen: " + ". ".join(found) + ". This is a "
            "bug: please report it with data/clips.csv, and use another protocol meanwhile."
        )
    return found


def table(report: Mapping) -> str:
    """The audit for people: clips per label and split, and the difference that a test can show."""
    width = max(len(label) for label in (*report["labels"], "label", "all"))
    rows: list[tuple[str, Sequence[object]]] = [("label", SPLITS)]
    rows += [(label, [row[split] for split in SPLITS]) for label, row in report["labels"].items()]
    rows.append(("all", [report["clips"][split] for split in SPLITS]))
    lines = [f"{name:<{width}}" + "".join(f"{n:>12}" for n in cells) for name, cells in rows]
    if report["left_out"]:
        lines.append(f"{report['left_out']} clips are in no split.")
    points = 100 * report["smallest_difference"]
    lines.append(
        f"With {report['clips']['test']} test clips, two models must differ by about {points:.1f} "
        "points before a comparison is likely to show it."
    )
    return "\n".join(lines)


def smallest_difference(
    clips: int, *, discordance: float = 0.2, confidence: float = 0.95, power: float = 0.8
) -> float:
    """The smallest difference in accuracy that a paired test on so many clips is likely to find.

    Two models are evaluated on the same clips and compared by McNemar's test. If exactly one of
    them is right on a share ψ of the clips, a difference δ is found with the wanted power on
    n = (z_{α/2} √ψ + z_β √(ψ − δ²))² / δ² clips (Connor, Biometrics 43, 1987, after Miettinen,
    Biometrics 24, 1968); this solves for δ. ψ = 0.2 is an assumption: two models of about 0.8
    accuracy that share some of their mistakes. δ cannot exceed ψ, so with few clips ψ is taken to
    grow with δ. Groups of similar clips make the true value larger.

    Returns:
        A share of the clips, at most 1.
    """
    z_alpha = NormalDist().inv_cdf(0.5 + confidence / 2)
    z_beta = NormalDist().inv_cdf(power)

    def needed(delta: float) -> float:
        psi = max(discordance, delta)
        return ((z_alpha * math.sqrt(psi) + z_beta * math.sqrt(psi - delta**2)) / delta) ** 2

    if clips < needed(1.0):
        return 1.0
    low, high = 1e-9, 1.0  # `needed` falls as delta grows: halve the interval that holds `clips`
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if needed(middle) > clips else (low, middle)
    return high


def _work(clip: Clip) -> object:
    """Group and title, if both are known: clips that share them are excerpts of one piece."""
    return (clip.group, clip.title) if clip.group and clip.title else None


def _sharing(
    clips: Sequence[Clip], splits: Mapping[str, str], fact: Callable[[Clip], object]
) -> dict[str, str]:
    """Clips that share a fact with a clip of an earlier split: clip -> the first such clip."""
    holders: dict[object, dict[str, str]] = defaultdict(dict)  # fact -> split -> a clip
    for clip in clips:
        if fact(clip):
            holders[fact(clip)].setdefault(splits[clip.clip], clip.clip)
    found: dict[str, str] = {}
    for clip in clips:
        if fact(clip):
            held = holders[fact(clip)]
            earlier = [
                held[split] for split in _EARLIER.get(splits[clip.clip], ()) if split in held
            ]
            found |= {clip.clip: earlier[0]} if earlier else {}
    return found


def _paired(near: Iterable[tuple[str, str]], splits: Mapping[str, str]) -> dict[str, str]:
    """The same for pairs of clips."""
    found: dict[str, str] = {}
    for pair in sorted(near):
        for clip, other in (pair, pair[::-1]):
            if splits.get(other) in _EARLIER.get(splits.get(clip, ""), ()):
                found.setdefault(clip, other)
    return found
