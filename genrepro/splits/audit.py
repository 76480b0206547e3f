"""What is wrong with a split: clips that the model has in effect heard before it is tested on them.

A clip of the test part leaks where the training or validation part holds a clip of its group
(artist, band, speaker), its bytes, or its recording; a clip of the validation part, where the
training part does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist

from genrepro.core.errors import PipelineError
from genrepro.splits.clips import PARTS, Clip

_EARLIER = {"validation": ("train",), "test": ("train", "validation")}
_KINDS = {
    "groups": "share their group with a clip",
    "titles": "share their group and title with a clip",
    "identical": "are byte for byte a clip",
    "near_identical": "hold the same recording as a clip",
}
_SHOWN = 3  # examples of each leak in a message; split.json lists all


def audit(
    clips: Iterable[Clip], parts: Mapping[str, str], near: Iterable[tuple[str, str]] = ()
) -> dict[str, object]:
    """Examine a split.

    Args:
        clips: the whole corpus.
        parts: clip -> part, as genrepro.splits.split gives it.
        near: pairs of clips that hold the same recording.

    Returns:
        What metrics/split.json holds. `clips` and `labels` count clips by part, `known_groups`
        those whose group is known, and `left_out` those in no part. `missing` names labels that
        a part lacks. `leaks` counts the clips of test and validation that leak, by kind, and
        `evidence` names each with one clip it leaks from. `smallest_difference` is that of the
        test part.
    """
    clips = sorted(clips)
    kept = [clip for clip in clips if clip.clip in parts]
    labels = {label: dict.fromkeys(PARTS, 0) for label in sorted({clip.label for clip in clips})}
    groups = dict.fromkeys(PARTS, 0)
    for clip in kept:
        labels[clip.label][parts[clip.clip]] += 1
        groups[parts[clip.clip]] += bool(clip.group)
    totals = {part: sum(row[part] for row in labels.values()) for part in PARTS}
    leaks = {
        "groups": _sharing(kept, parts, lambda clip: clip.group),
        "titles": _sharing(kept, parts, _work),
        "identical": _sharing(kept, parts, lambda clip: clip.sha256),
        "near_identical": _paired(near, parts),
    }
    return {
        "clips": totals,
        "left_out": len(clips) - len(kept),
        "known_groups": groups,
        "smallest_difference": round(smallest_difference(totals["test"]), 4),
        "leaks": {
            part: {kind: sum(parts[c] == part for c in found) for kind, found in leaks.items()}
            for part in ("test", "validation")
        },
        "labels": labels,
        "missing": [f"{x} in {part}" for x, row in labels.items() for part in row if not row[part]],
        "evidence": {
            kind: [f"{a} in {parts[a]}, {b} in {parts[b]}" for a, b in sorted(found.items())]
            for kind, found in leaks.items()
        },
    }


def check(report: Mapping, protocol: str) -> list[str]:
    """Return a warning for each kind of leak.

    Raises:
        PipelineError: the protocol is `grouped`, which promises that nothing leaks.
    """
    found = []
    for part, kinds in report["leaks"].items():
        for kind, count in kinds.items():
            if count:
                pairs = [pair for pair in report["evidence"][kind] if f" in {part}, " in pair]
                shown = "; ".join(pairs[:_SHOWN]) + ("; …" if len(pairs) > _SHOWN else "")
                where = " or ".join(_EARLIER[part])
                found.append(
                    f"{count} of {report['clips'][part]} {part} clips {_KINDS[kind]} in {where} "
                    f"({shown})"
                )
    if found and protocol == "grouped":
        raise PipelineError(
            "The grouped split leaks, which it must never: " + ". ".join(found) + ". This is a "
            "fault of the program; report it with data/clips.csv, and take another protocol."
        )
    return found


def table(report: Mapping) -> str:
    """The audit for a person: clips by label and part, and how fine a difference the test shows."""
    width = max(len(label) for label in (*report["labels"], "label", "all"))
    rows = [("label", PARTS)]
    rows += [(label, [row[part] for part in PARTS]) for label, row in report["labels"].items()]
    rows.append(("all", [report["clips"][part] for part in PARTS]))
    lines = [f"{name:<{width}}" + "".join(f"{n:>12}" for n in cells) for name, cells in rows]
    if report["left_out"]:
        lines.append(f"{report['left_out']} clips are in no part.")
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

    Two models are tried on the same clips and compared by McNemar's test. With a share ψ of the
    clips on which exactly one of them is right, a difference δ is found with the wanted power
    on n = (z_{α/2} √ψ + z_β √(ψ − δ²))² / δ² clips (Connor, Biometrics 43, 1987, after
    Miettinen, Biometrics 24, 1968); this solves for δ. ψ = 0.2 is an assumption: two models of
    about 0.8 accuracy that share some of their mistakes. δ cannot exceed ψ, so for small parts ψ
    is taken to grow with δ. Groups of alike clips make the true value larger.

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
    """Group and title, where both are known: two cuts of the same piece."""
    return (clip.group, clip.title) if clip.group and clip.title else None


def _sharing(
    clips: Sequence[Clip], parts: Mapping[str, str], fact: Callable[[Clip], object]
) -> dict[str, str]:
    """Clips that share a fact with a clip of an earlier part: clip -> the first such clip."""
    holders: dict[object, dict[str, str]] = defaultdict(dict)  # fact -> part -> a clip
    for clip in clips:
        if fact(clip):
            holders[fact(clip)].setdefault(parts[clip.clip], clip.clip)
    found = {}
    for clip in clips:
        if fact(clip):
            held = holders[fact(clip)]
            earlier = [held[part] for part in _EARLIER.get(parts[clip.clip], ()) if part in held]
            found |= {clip.clip: earlier[0]} if earlier else {}
    return found


def _paired(near: Iterable[tuple[str, str]], parts: Mapping[str, str]) -> dict[str, str]:
    """The same for pairs of clips."""
    found: dict[str, str] = {}
    for pair in sorted(near):
        for clip, other in (pair, pair[::-1]):
            if parts.get(other) in _EARLIER.get(parts.get(clip, ""), ()):
                found.setdefault(clip, other)
    return found
