"""Take the sound files out of a tarball.

Nothing is ever extracted to a path that the tarball names: each file's content is copied to the
shelf's place for it.
"""

from __future__ import annotations

import bz2
import gzip
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from genrepro.audio import SOUNDS
from genrepro.core.errors import PipelineError
from genrepro.corpus.shelf import Shelf

HIDDEN = "hidden file (macOS stores file attributes this way); holds no audio"


def unpack(tarball: Path, shelf: Shelf) -> None:
    """Put every `…/<label>/<clip>.<ext>` of a .tar, .tar.gz or .tar.bz2 on the shelf.

    Raises:
        PipelineError: it is cut short or damaged.
    """
    size = tarball.stat().st_size
    try:
        with (
            tarball.open("rb") as packed,
            _decompressed(packed) as content,
            tarfile.open(fileobj=content, mode="r|") as archive,  # front to back, never seeking
            tqdm(total=size, desc="unpacking", unit="B", unit_scale=True, disable=None) as bar,
        ):
            for member in archive:
                _take(archive, member, shelf)
                bar.update(packed.tell() - bar.n)
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk; core.stage.run says what to do
        raise PipelineError(
            f"{tarball.name} is cut short, damaged or not a tarball ({type(error).__name__}): "
            "check the card's `file`."
        ) from None


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, shelf: Shelf) -> None:
    name = PurePosixPath(member.name)
    if member.isdir():
        return
    if name.suffix.lower() not in SOUNDS:
        shelf.ignore(name.name)
        return
    if reason := _refusal(member, name):
        label = "" if reason == HIDDEN else name.parent.name
        shelf.refuse(member.name, reason, label)
        return
    target = shelf.place(name.parent.name, name.stem, name.suffix, member.name)
    if target:
        content = archive.extractfile(member)
        assert content, "a regular file"
        with content, target.open("wb") as file:
            shutil.copyfileobj(content, file)


def _refusal(member: tarfile.TarInfo, name: PurePosixPath) -> str | None:
    if name.name.startswith("."):
        return HIDDEN
    if name.is_absolute() or ".." in name.parts:
        return "its path leads out of the archive"
    if not member.isreg() or member.issparse():
        return "not a regular file (a link, a device or the like)"
    return None if name.parent.name else "not in a label's folder"


def _decompressed(packed: IO[bytes]) -> IO[bytes] | gzip.GzipFile | bz2.BZ2File:
    """Not tarfile's own decompression, which takes a cut file for one that ends there."""
    magic = packed.read(3)
    packed.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(packed)
    return bz2.open(packed) if magic == b"BZh" else packed
