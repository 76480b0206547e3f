"""Take the files of a corpus out of a zip or tar archive.

Nothing is ever extracted to a path that the archive names: each file's content is copied to a
numbered file, and its name is kept beside it.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

from genrepro.core.errors import PipelineError
from genrepro.corpus.shelf import Shelf
from genrepro.corpus.sources import HIDDEN, Source, is_read

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_DAMAGE: tuple[type[Exception], ...] = (tarfile.TarError, zipfile.BadZipFile, zlib.error)
_DAMAGE += (lzma.LZMAError, struct.error, EOFError, ValueError, OverflowError)
_DAMAGE += (NotImplementedError, OSError)
_ENCRYPTED, _UTF_8 = 0x1, 0x800  # a zip entry's flags


class _Member(NamedTuple):
    name: str
    regular: bool
    content: IO[bytes] | None  # of a file that is read here


def unpack(archive: Path, folder: Path, shelf: Shelf) -> list[Source]:
    """Copy the sound files and tables of an archive to the new `folder`, as 0, 1, 2, …

    What cannot be a clip is refused or counted on the shelf.

    Returns:
        The files, sorted by their names in the archive.

    Raises:
        PipelineError: it is cut short, damaged, encrypted or no such archive.
    """
    folder.mkdir(parents=True)
    members = _zipped if zipfile.is_zipfile(archive) else _tarred
    found: list[Source] = []
    try:
        for member in members(archive):
            name = PurePosixPath(member.name)
            if not is_read(name):
                shelf.ignore(name.name)
            elif reason := _refusal(member, name):
                shelf.refuse(member.name, reason, "" if reason == HIDDEN else name.parent.name)
            elif member.content:
                path = folder / str(len(found))
                with member.content, path.open("wb") as file:
                    shutil.copyfileobj(member.content, file)
                found.append(Source(name, path))
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a wrong seek
            raise  # the disk; core.stage.run says what to do
        raise PipelineError(
            f"{archive.name} is cut short, damaged or not an archive ({type(error).__name__}): "
            "download it again; for one from the Hub, check the card's `file`."
        ) from None
    return sorted(found)


def _refusal(member: _Member, name: PurePosixPath) -> str | None:
    if name.name.startswith("."):
        return HIDDEN
    if name.is_absolute() or ".." in name.parts:
        return "its path leads out of the archive"
    return None if member.regular else "not a regular file (a link, a device or the like)"


def _tarred(archive: Path) -> Iterator[_Member]:
    size = archive.stat().st_size
    with (
        archive.open("rb") as packed,
        _decompressed(packed) as content,
        tarfile.open(fileobj=content, mode="r|") as tar,  # front to back, never seeking
        tqdm(total=size, desc="unpacking", unit="B", unit_scale=True, disable=None) as bar,
    ):
        for info in tar:
            if not info.isdir():
                regular = info.isreg() and not info.issparse()
                read = regular and is_read(PurePosixPath(info.name))
                yield _Member(info.name, regular, tar.extractfile(info) if read else None)
            bar.update(packed.tell() - bar.n)


def _zipped(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in tqdm(packed.infolist(), desc="unpacking", unit=" files", disable=None):
            if info.is_dir():
                continue
            if info.flag_bits & _ENCRYPTED:
                raise PipelineError(f"{archive.name} is encrypted: unpack it into a folder.")
            name = info.filename
            if not info.flag_bits & _UTF_8:  # the standard says cp437; most programs write UTF-8
                with contextlib.suppress(UnicodeError):
                    name = name.encode("cp437").decode("utf-8")
            name = name.replace("\\", "/")
            kind = stat.S_IFMT(info.external_attr >> 16)
            regular = kind in (0, stat.S_IFREG)
            read = regular and is_read(PurePosixPath(name))
            yield _Member(name, regular, packed.open(info) if read else None)


def _decompressed(packed: IO[bytes]) -> IO[bytes] | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    """Not tarfile's own decompression, which takes a cut file for one that ends there."""
    magic = packed.read(6)
    packed.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(packed)
    if magic == b"\xfd7zXZ\0":
        return lzma.open(packed)
    return bz2.open(packed) if magic[:3] == b"BZh" else packed
