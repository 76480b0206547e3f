"""Parameters as flat dictionaries, and in what two of them differ."""

from __future__ import annotations

import json
from collections.abc import Iterator


def flat(nested: object) -> dict[str, object]:
    """{"train": {"epochs": 10}} as {"train.epochs": 10}; what is not a dict has no parameters."""
    return dict(_flat(nested, "")) if isinstance(nested, dict) else {}


def _flat(nested: dict, prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differences(old: dict[str, object], new: dict[str, object]) -> dict[str, tuple[object, object]]:
    """Key -> both values, for each key in which two sets of parameters differ."""
    keys = [*old, *(key for key in new if key not in old)]
    both = {key: (old.get(key), new.get(key)) for key in keys}
    return {key: (a, b) for key, (a, b) in both.items() if not _equal(a, b)}


def _equal(a: object, b: object) -> bool:
    """As the pipeline reads them: "1e-05", which YAML 1.1 keeps as text, is a number."""
    try:
        return a == b or float(str(a)) == float(str(b))
    except ValueError:
        return False


def shown(value: object) -> str:
    """A value as YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value)
