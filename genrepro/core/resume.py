"""Where unfinished work is kept: in a folder named by a key of everything that decides its bytes.

The key comes from dvc.yaml: the dependencies and parameters that the stage declares there, plus the
installed packages and what the stage resolved when it started (device, precision, threads). So the
shards or checkpoints of another experiment, or of other code, are never resumed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shutil
from collections.abc import Container
from importlib.metadata import distributions
from pathlib import Path

import yaml

from genrepro.core import paths, processes
from genrepro.core.files import sha256
from genrepro.core.params import Params


def folder(stage: str, params: Params, resolved: dict[str, object]) -> Path:
    """The folder of a stage's unfinished work; what that stage left under other keys is removed.

    Args:
        params: as read when the stage started: the file may have been changed since.
        resolved: what was decided when the stage started and is in no file, as JSON.
    """
    key = key_of(stage, params, resolved)
    home = paths.UNFINISHED / stage
    for other in home.glob("*") if processes.rank() == 0 else ():
        if other.name != key:
            discard(other)
    (home / key).mkdir(parents=True, exist_ok=True)
    return home / key


def key_of(
    stage: str, params: Params, resolved: dict[str, object], without: Container[Path] = ()
) -> str:
    """A hash of everything that decides a stage's bytes, but for the dependencies in `without`."""
    declared = yaml.safe_load(paths.PIPELINE.read_text(encoding="utf-8"))["stages"][stage]
    values = params.model_dump()
    deps = [Path(_resolve(path, values)) for path in declared["deps"]]
    described = {
        "dependencies": {path.as_posix(): content(path) for path in deps if path not in without},
        "parameters": {section: values[section] for section in declared["params"]},
        "packages": sorted(f"{each.name} {each.version}" for each in distributions()),
        "resolved": resolved,
    }
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def discard(work: Path) -> None:
    """Remove unfinished work that is no longer needed; half of it is never found again."""
    gone = work.with_suffix(".gone")  # not a key: a process killed in the middle leaves nothing
    work.replace(gone)
    shutil.rmtree(gone)


def _resolve(path: str, values: dict) -> str:
    """Replace each `${section.parameter}`, as DVC does."""

    def value(match: re.Match[str]) -> str:
        return str(functools.reduce(dict.__getitem__, match[1].split("."), values))

    return re.sub(r"\$\{([\w.]+)\}", value, path)


def content(path: Path) -> object:
    """A dependency's content: its hash, or, of a folder of data, its files' names, sizes and times.

    A corpus of a terabyte is not read again to resume; files that DVC or a stage writes get a new
    time.
    """
    if not path.exists():
        return None  # the stage itself says what it misses
    if not path.is_dir():
        return sha256(path)
    return {
        each.relative_to(path).as_posix(): sha256(each) if each.suffix == ".py" else _stat(each)
        for each in sorted(path.rglob("*"))
        if each.is_file() and "__pycache__" not in each.parts
    }


def _stat(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
