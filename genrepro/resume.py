"""Where unfinished work waits, filed under a key of everything it was made from.

DVC deletes a stage's outputs before it runs, and keeping them would let one experiment's leftovers
into the next. So partial work lives beside DVC, and is found again only by the same inputs,
parameters, code and library versions.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path

from genrepro.runtime import WORK_DIR, sha256


def folder(stage: str, parts: dict[str, object], sources: list[str], packages: list[str]) -> Path:
    """The folder of a stage's unfinished work; other keys' leftovers of that stage are removed.

    Args:
        parts: JSON-able description of inputs and parameters.
        sources: Python files whose text decides the result.
        packages: distributions whose versions decide the result.
    """
    described = {
        "parts": parts,
        "sources": {Path(source).name: sha256(Path(source)) for source in sorted(sources)},
        "packages": {package: version(package) for package in sorted(packages)},
    }
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    home = WORK_DIR / stage
    for other in home.glob("*"):
        if other.name != key:
            discard(other)
    (home / key).mkdir(parents=True, exist_ok=True)
    return home / key


def discard(work: Path) -> None:
    """Remove unfinished work that is no longer needed; no half of it is ever found again."""
    gone = work.with_suffix(".gone")  # no key: a process killed while it removes leaves nothing
    work.replace(gone)
    shutil.rmtree(gone)
