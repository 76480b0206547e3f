"""The files of a corpus: each with its name below the corpus, and where its content is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from genrepro.audio import SOUNDS
from genrepro.core.errors import PipelineError

TABLES = (".csv", ".tsv", ".txt", ".jsonl", ".parquet")
HIDDEN = "hidden file (macOS stores file attributes this way); holds no audio"


class Source(NamedTuple):
    name: PurePosixPath  # below the corpus' folder
    path: Path


def is_sound(name: PurePath) -> bool:
    return name.suffix.lower() in SOUNDS


def is_read(name: PurePath) -> bool:
    """Whether it may be a clip or say something about clips."""
    return is_sound(name) or name.suffix.lower() in TABLES


def walk(root: Path, watched: bool = True) -> list[Source]:
    """All files below a folder, without those in hidden folders, sorted by path.

    Args:
        watched: whether DVC watches the folder; it does not follow links to folders.

    Raises:
        PipelineError: it is watched, and holds a link to a folder.
    """
    return sorted(
        Source(PurePosixPath(path.relative_to(root)), path) for path in _paths(root, watched)
    )


def _paths(root: Path, watched: bool) -> Iterator[Path]:
    for folder, names, files in os.walk(root, followlinks=not watched):
        names[:] = [name for name in names if not name.startswith(".")]
        links = [name for name in names if Path(folder, name).is_symlink()]
        if links and watched:
            raise PipelineError(
                f"data.corpus: {Path(folder, links[0])} is a link to a folder, and DVC would not "
                "notice when the clips in it change: put the folder itself there, or name it in a "
                "card of kind `folder`."
            )
        here = Path(folder).resolve()
        for name in links:
            if here.is_relative_to(Path(folder, name).resolve()):
                names.remove(name)  # it leads back up
        yield from (Path(folder, name) for name in files)
