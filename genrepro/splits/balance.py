"""Distribute clips, or groups of clips, so that every label is spread evenly."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from genrepro.splits.clips import Clip, Unit


def balanced_folds(units: Sequence[Unit], folds: int, seed: int) -> list[list[Unit]]:
    """Assign units to folds so that every label is spread as evenly as the units allow.

    Largest units first (Graham's longest-processing-time rule), each to the fold that has least of
    its labels so far, then to the fold with the fewest clips. With units of one clip, a label's
    counts differ by at most one between folds. If a label has fewer units than there are folds,
    the folds that lack it come last.
    """
    totals = Counter(clip.label for unit in units for clip in unit)
    assigned: list[list[Unit]] = [[] for _ in range(folds)]
    counts: list[Counter[str]] = [Counter() for _ in range(folds)]
    ties = sorted(range(folds), key=lambda fold: shuffle_key(seed, f"fold {fold}"))
    for unit in sorted(units, key=lambda unit: (-len(unit), shuffle_key(seed, unit[0].clip))):
        needs = Counter(clip.label for clip in unit)

        def cost(fold: int, needs: Counter = needs) -> tuple[float, int]:
            held = counts[fold]
            crowd = sum(n * held[label] / totals[label] for label, n in sorted(needs.items()))
            return crowd, held.total()

        fold = min(ties, key=cost)
        assigned[fold].append(unit)
        counts[fold] += needs
    return [assigned[fold] for fold in sorted(range(folds), key=lambda fold: -len(counts[fold]))]


def hold_out(units: Sequence[Unit], share: float, seed: int) -> list[Clip]:
    """Choose units with about `share` of each label: at least one clip of it, never all.

    In shuffled order: units that fit, then units that bring the counts closer to their targets,
    then the smallest unit of a label that still has none.
    """
    totals = Counter(clip.label for unit in units for clip in unit)
    targets = {label: max(1.0, share * n) for label, n in totals.items()}
    left = Counter(label for unit in units for label in {clip.label for clip in unit})
    waiting = sorted(units, key=lambda unit: shuffle_key(seed, f"validation {unit[0].clip}"))
    counts: Counter = Counter()
    chosen: list[Clip] = []

    def take(unit: Unit) -> None:
        waiting.remove(unit)
        chosen.extend(unit)
        counts.update(clip.label for clip in unit)
        left.subtract({clip.label for clip in unit})

    def gain(needs: Counter) -> float:
        """How much closer the counts come to their targets, in shares of a label."""
        return sum(
            (abs(counts[label] - targets[label]) - abs(counts[label] + n - targets[label]))
            / targets[label]
            for label, n in sorted(needs.items())
        )

    for fits in (True, False):
        for unit in list(waiting):
            needs = Counter(clip.label for clip in unit)
            over = any(counts[label] + n > targets[label] + 0.5 for label, n in needs.items())
            spare = all(left[label] > 1 for label in needs)
            if spare and gain(needs) > 0 and not (fits and over):
                take(unit)
    for label in sorted(totals):
        if not counts[label]:
            for unit in sorted(waiting, key=len):
                held = {clip.label for clip in unit}
                if label in held and all(left[name] > 1 for name in held):
                    take(unit)
                    break
    return chosen


def shuffle_key(seed: int, name: str) -> bytes:
    """Sort key that shuffles names, the same on every platform with every library version."""
    return hashlib.sha256(f"{seed} {name}".encode()).digest()
