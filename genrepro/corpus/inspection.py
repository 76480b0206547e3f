"""Decode and fingerprint files, in worker processes, and only once for each content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genrepro.audio import AudioFault, Inspection, inspect
from genrepro.core.files import atomic_output, sha256
from genrepro.core.processes import map_processes, workers
from genrepro.corpus.fingerprint import fingerprint

FINGERPRINT_SECONDS = 120.0  # a copy is recognised by its first two minutes


class Inspected(NamedTuple):
    """A usable clip, and its acoustic fingerprint, uint32 (frames,)."""

    inspection: Inspection
    fingerprint: np.ndarray


def inspect_clips(paths: Sequence[Path], earlier: Path | None) -> list[Inspected | str]:
    """Inspect files, except those whose content is known from an earlier run.

    Args:
        earlier: a file of results by SHA-256, which is replaced by these; None to keep none.

    Returns:
        For each file what it holds, or the reason why it cannot be a clip.
    """
    known = _read(earlier) if earlier and earlier.exists() else {}
    hashes: Iterable[str] = [""] * len(paths)
    if known:
        with ThreadPoolExecutor(workers()) as pool:
            hashes = pool.map(sha256, paths)
    found: dict[Path, Inspected | str] = {
        path: known[content]
        for path, content in zip(paths, hashes, strict=True)
        if content in known
    }
    unknown = [path for path in paths if path not in found]
    found |= zip(unknown, map_processes(inspect_clip, unknown, "inspecting"), strict=True)
    results = [found[path] for path in paths]
    if earlier:
        _write(earlier, [result for result in results if isinstance(result, Inspected)])
    return results


def inspect_clip(path: Path) -> Inspected | str:
    """Decode a whole file; return what it holds, or the reason why it cannot be a clip."""
    try:
        found, head = inspect(path, FINGERPRINT_SECONDS)
    except AudioFault as fault:
        return str(fault)
    return Inspected(found, fingerprint(head, found.sample_rate))


def _read(path: Path) -> dict[str, Inspected]:
    import pyarrow  # not at the top: worker processes do not need it
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowException):
        return {}
    found = {}
    for text, print_ in zip(table["inspection"].to_pylist(), table["fingerprint"], strict=True):
        inspection = Inspection(**json.loads(text))
        found[inspection.sha256] = Inspected(inspection, print_.values.to_numpy())
    return found


def _write(path: Path, results: Iterable[Inspected]) -> None:
    import pyarrow
    from pyarrow import parquet

    by_content = {result.inspection.sha256: result for result in results}
    texts = [json.dumps(asdict(result.inspection)) for result in by_content.values()]
    prints = [result.fingerprint for result in by_content.values()]
    prints = pyarrow.array(prints, pyarrow.list_(pyarrow.uint32()))
    with atomic_output(path) as draft:
        parquet.write_table(pyarrow.table({"inspection": texts, "fingerprint": prints}), draft)
