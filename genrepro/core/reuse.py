"""Reuse what a stage's last run made of clips that have not changed, when a corpus grows.

A note beside the unfinished work says which clips, by content, an output was made of, and the key
of everything else that decided its bytes. It is believed only while all of that, and the output
itself, is as it was.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path

from genrepro.core import paths, resume
from genrepro.core.files import write_json
from genrepro.core.params import Params


def note(stage: str, key: str, output: Path, clips: Mapping[str, str]) -> None:
    """Write down that `output` was made of these clips: name -> SHA-256.

    Args:
        key: of all else that decided its bytes, from `resume.key_of`.
    """
    content = resume.content(output)
    write_json(_note(stage), {"key": key, "output": content, "clips": dict(clips)})


def unchanged(stage: str, key: str, output: Path, clips: Mapping[str, str]) -> set[str]:
    """The clips of which `output` already holds what the stage would make of them."""
    try:
        noted = json.loads(_note(stage).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return set()
    if noted["key"] != key or noted["output"] != resume.content(output):
        return set()
    return {clip for clip, sha256 in clips.items() if noted["clips"].get(clip) == sha256}


def kept(stage: str, params: Params, clips: Container[Path]) -> Path | None:
    """A file for what a stage remembers of single clips; those under other keys are removed.

    None outside of a repository: where there is no dvc.yaml, there is no key.
    """
    if not paths.PIPELINE.exists():
        return None
    name = resume.key_of(stage, params, {}, without=clips)
    home = paths.UNFINISHED / stage
    for other in home.glob("*.parquet"):
        if other.stem != name:
            other.unlink()
    return home / f"{name}.parquet"


def _note(stage: str) -> Path:
    return paths.UNFINISHED / f"{stage}.made.json"
