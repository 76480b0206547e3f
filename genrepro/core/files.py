"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_output(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write a file or folder to; move it into place at the end.

    If the block raises, `target` stays as it was and what was written is removed. A process killed
    at any moment leaves the old target, the new one or, for an instant, none: never a part of one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.part")
    old = target.with_name(f".{target.name}.old.part")
    remove(draft)
    try:
        yield draft
        remove(old)
        if target.is_dir():  # a folder cannot be replaced in one step, as a file can
            target.replace(old)
        draft.replace(target)
    finally:
        remove(draft)
        remove(old)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        try:
            shutil.rmtree(path)
        except OSError as error:
            error.filename = str(path)  # it names a file in it, without its folder
            raise
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    with atomic_output(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: object) -> None:
    """Write JSON that reads well in a diff: indented, in the given order, with a last newline."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
