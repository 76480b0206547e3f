"""Take the sound files out of a tarball that somebody else packed.

Nothing is ever extracted to a path that the tarball names: each file's content is copied to the
shelf's place for it. Links, devices, absolute names and `..` are set aside; a bomb is refused.
"""

from __future__ import annotations

import bz2
import gzip
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from genrepro.audio import EXTENSIONS
from genrepro.core.errors import PipelineError
from genrepro.corpus.shelf import Shelf

MAX_MEMBERS = 1_000_000
MAX_CLIP_BYTES = 1 << 30
MAX_RATIO = 50  # unpacked to packed; audio packs to a fifth at best
MIN_TOTAL_BYTES = 64 << 20  # allowed whatever the ratio
CHUNK = 1 << 20  # the most that is read at once, so that no header can ask for more memory

HIDDEN = "hidden file (macOS packs its file attributes so); holds no audio"


class _Bomb(Exception):
    """The tarball asks for more memory or disk than its size justifies."""


def unpack(tarball: Path, shelf: Shelf) -> None:
    """Put every `…/<label>/<clip>.<ext>` of a .tar, .tar.gz or .tar.bz2 on the shelf.

    Raises:
        PipelineError: it is damaged, or unpacks to far more than it packs.
    """
    size = tarball.stat().st_size
    try:
        with tarball.open("rb") as packed, _decompressed(packed) as content:
            limited = _Limited(content, max(MIN_TOTAL_BYTES, MAX_RATIO * size))
            with (
                tarfile.open(fileobj=limited, mode="r:") as archive,
                tqdm(total=size, desc="unpacking", unit="B", unit_scale=True, disable=None) as bar,
            ):
                for count, member in enumerate(archive):
                    if count == MAX_MEMBERS:
                        raise _Bomb(f"holds more than {MAX_MEMBERS} files")
                    _take(archive, member, shelf)
                    bar.update(packed.tell() - bar.n)
    except _Bomb as bomb:
        raise PipelineError(f"{tarball.name} is refused: it {bomb}.") from None
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk; runtime.run says what to do
        raise PipelineError(
            f"{tarball.name} is no sound tarball ({type(error).__name__}): check the card's file."
        ) from None


_DAMAGED = (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError)


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, shelf: Shelf) -> None:
    name = PurePosixPath(member.name)
    if name.suffix.lower() not in EXTENSIONS or member.isdir():
        return
    reason = _refusal(member, name)
    if reason:
        shelf.refuse(member.name, reason)
        return
    target = shelf.place(name.parent.name, name.stem, name.suffix, member.name)
    if target is None:
        return
    with archive.extractfile(member) as content, target.open("wb") as file:
        left = member.size
        while left:
            chunk = content.read(min(CHUNK, left))
            if not chunk:
                raise EOFError
            file.write(chunk)
            left -= len(chunk)


def _refusal(member: tarfile.TarInfo, name: PurePosixPath) -> str | None:
    if name.name.startswith("."):
        return HIDDEN
    if name.is_absolute() or ".." in name.parts:
        return "its path leads out of the archive"
    if not member.isreg() or member.issparse():
        return "not a regular file (a link, a device or the like)"
    if not name.parent.name:
        return "lies outside a label's folder"
    if member.size > MAX_CLIP_BYTES:
        return f"larger than {MAX_CLIP_BYTES >> 20} MiB"
    return None


def _decompressed(packed: IO[bytes]) -> IO[bytes]:
    magic = packed.read(3)
    packed.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(packed)
    if magic == b"BZh":
        return bz2.open(packed)
    return packed


class _Limited:
    """A readable file that refuses to give much at once, or much in all.

    tarfile steps one byte back after each member, to see whether it was whole. A gzip stream
    would be unpacked again from its start for that, so the last byte is kept here.
    """

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._most = file, most
        self._position, self._last, self._stepped_back = 0, b"", False

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= CHUNK:
            raise _Bomb(f"asks for {size} bytes of memory for a header")
        if not size:
            return b""
        self._check(self._position + size)
        again = self._last if self._stepped_back else b""
        data = again + self._file.read(size - len(again))
        self._stepped_back = False
        self._last = data[-1:] or self._last
        self._position += len(data)
        return data

    def seek(self, position: int) -> int:
        self._check(position)
        if position == self._position - 1 and self._last and not self._stepped_back:
            self._stepped_back = True
        elif position != self._position:
            self._file.seek(position)
            self._last, self._stepped_back = b"", False
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def _check(self, position: int) -> None:
        if position > self._most:
            raise _Bomb(f"unpacks to more than {self._most >> 20} MiB")
