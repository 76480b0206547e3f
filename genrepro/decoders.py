"""The two libraries that decode sound files, behind one interface, and what is wrong with a file.

libsndfile (through soundfile) decodes WAV, FLAC, Ogg, Opus, MP3, AIFF, AU, CAF, W64 and others.
FFmpeg's libraries (through PyAV, whose wheel brings them along) decode what it does not read, such
as M4A, WMA and WebM, and what it would read in part: MP3 whose header does not cover the file, Ogg
with several recordings in a row, WAV whose size was never written.
"""

from __future__ import annotations

import itertools
import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

if TYPE_CHECKING:
    import av

BLOCK_SAMPLES = 1 << 16  # decoded at once, all channels together
SMALL_BLOCK = 1152  # the same for a damaged file, which loses the whole block that is damaged
UNKNOWN_SIZE = 0x7FFF0000  # what programs that write into a pipe claim is larger
TAGS = 512  # bytes that may follow the last frame of an MP3: ID3v1 and the like
ROUNDING = 0.1  # s; how far a container's length may be from that of its sound

# FFmpeg would also open playlists, which name other files, and images: these formats and no others.
CONTAINERS = "mov,matroska,asf,aac,amr,ac3,eac3,dts,flv,avi,mpeg,mpegts,mp3,ogg,wav,w64,caf,aiff,au"
CONTAINERS += ",flac,voc,nistsphere,iff,wv,ape,tta,mpc,mpc8,dsf,rm"
MEASURED = {"mov", "matroska", "asf", "avi", "flv", "ape", "wv", "tta"}  # headers state lengths


class AudioFault(Exception):
    """Why a file cannot be used as a clip, in a few words, without its path."""


class _Forwards(soundfile.SoundFile):
    """Reads without the seek that soundfile adds to each read of a seekable file.

    That seek takes time and spoils the next frames of an MP3, which depend on the previous ones.
    """

    def seekable(self) -> bool:
        return False


class Libsndfile:
    """A file that libsndfile decodes.

    Attributes:
        sample_rate: in Hz.
        promised: samples per channel that the header promises; 0 if it does not say.
        cut_short: after `blocks`, why decoding stopped before the end; None if it did not.

    Raises:
        RuntimeError, TypeError, ValueError: it cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _Forwards(path)
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.promised = _promised(self._file)
        self.cut_short: str | None = None

    def close(self) -> None:
        self._file.close()

    def passes_over_sound(self) -> bool:
        """Whether the file holds sound that libsndfile would not read."""
        if self._file.format == "MP3":
            return not _header_covers(self._path)
        if self._file.format == "OGG":
            return _pages(self._path).chained
        return self._file.format == "WAV" and self._file.frames == 0

    def blocks(self, wanted: float) -> Iterator[np.ndarray]:
        """Yield (n, channels) int16 or float32, n > 0; after an error, try again in small blocks.

        libsndfile would scale 16-bit samples to the same numbers, more slowly.
        """
        kind = "int16" if self._file.subtype == "PCM_16" else "float32"
        decoded = 0
        for samples in (BLOCK_SAMPLES, SMALL_BLOCK):
            most, at = max(1, samples // self.channels), 0
            try:
                while at < wanted:
                    size = min(most, wanted - at)
                    block = self._file.read(size, dtype=kind, always_2d=True)
                    if not len(block):
                        break
                    at += len(block)
                    if at > decoded:
                        yield block[decoded - at :]
                        decoded = at
                self.cut_short = self._missing(decoded, wanted)
                return
            except RuntimeError as error:  # LibsndfileError is one
                reason = reason_of(error)
            self._file.close()
            self._file = _Forwards(self._path)
        self.cut_short = _stopped(decoded, self.promised, self.sample_rate, reason)

    def _missing(self, decoded: int, wanted: float) -> str | None:
        promised = min(self.promised, wanted)
        if decoded < promised:
            return _too_short(decoded, promised, self.sample_rate)
        if self._file.format == "OGG" and decoded < wanted:
            return _pages(self._path).missing()
        return None


def _kind(frame: av.AudioFrame) -> tuple[int, str, str]:
    return frame.rate, frame.layout.name, frame.format.name


class FFmpeg:
    """A file that FFmpeg's libraries decode; attributes as for Libsndfile.

    The sound is that of the first audio stream. Where its rate or its channels change, the rest is
    converted to those that it begins with.

    Raises:
        AudioFault: it cannot be decoded.
    """

    def __init__(self, path: Path) -> None:
        import av  # it takes 0.15 s and 20 MB, and few corpora need it

        self._path = path
        self._stopped: str | None = None
        self._damaged = 0.0  # s that could not be decoded
        # Not by its name, which could be taken for a protocol, or hold bytes that are not UTF-8.
        self._opened = path.open("rb")
        try:
            options = {"format_whitelist": CONTAINERS}
            self._container = av.open(self._opened, "r", options=options, metadata_errors="replace")
            self._frames = self._decoded()
            first = next(self._frames, None)
        except (av.FFmpegError, OSError) as error:
            self._opened.close()
            raise AudioFault(_undecodable(error)) from None
        if first is None:
            self.close()
            raise AudioFault("holds no sound that can be decoded")
        self._frames = itertools.chain([first], self._frames)
        self._damaged = 0.0  # what comes before the sound is none of it
        self._layout = first.layout
        self.sample_rate: int = first.sample_rate
        self.channels: int = first.layout.nb_channels
        self.promised = self._promised()
        self.cut_short: str | None = None

    def close(self) -> None:
        self._container.close()
        self._opened.close()

    def _decoded(self) -> Iterator[av.AudioFrame]:
        """Yield frames; pass over what is damaged, as ffmpeg does."""
        import av

        streams = self._container.streams.audio
        packets = self._container.demux(streams[0]) if streams else iter(())
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
            except (av.FFmpegError, OSError) as error:  # or a seek to an impossible place
                self._stopped = reason_of(error)
                return
            try:
                yield from packet.decode()
            except (av.FFmpegError, OSError):
                self._damaged += float((packet.duration or 0) * (packet.time_base or 0))

    def _promised(self) -> int:
        stream, length = self._container.streams.audio[0], 0.0
        if MEASURED & set(self._container.format.name.split(",")):
            if stream.duration and stream.time_base:
                length = float(stream.duration * stream.time_base)
            elif self._container.duration and len(self._container.streams) == 1:
                length = self._container.duration / 1e6
        return round(length * self.sample_rate)

    def blocks(self, wanted: float) -> Iterator[np.ndarray]:
        """Yield (n, channels) float32, n > 0."""
        most, decoded, count = max(1, BLOCK_SAMPLES // self.channels), 0, 0
        waiting: list[np.ndarray] = []
        for piece in self._pieces():
            waiting.append(piece)
            count += len(piece)
            if count >= min(most, wanted - decoded):
                yield np.concatenate(waiting)[: int(min(count, wanted - decoded))]
                decoded, count, waiting = decoded + count, 0, []
            if decoded >= wanted:
                return
        if waiting:
            yield np.concatenate(waiting)
        self.cut_short = self._missing(decoded + count, wanted)

    def _pieces(self) -> Iterator[np.ndarray]:
        import av

        try:
            for _, frames in itertools.groupby(self._frames, _kind):
                resampler = av.AudioResampler("fltp", self._layout, self.sample_rate)
                for frame in itertools.chain(frames, [None]):  # None: what it holds back
                    for each in resampler.resample(frame):
                        if each is not None and each.samples:
                            yield each.to_ndarray().T
        except (av.FFmpegError, OSError) as error:  # the change is one that it cannot convert
            self._stopped = reason_of(error)

    def _missing(self, decoded: int, wanted: float) -> str | None:
        if self._stopped:
            return _stopped(decoded, self.promised, self.sample_rate, self._stopped)
        if decoded < min(self.promised - ROUNDING * self.sample_rate, wanted):
            return _too_short(decoded, min(self.promised, wanted), self.sample_rate)
        if self._damaged >= 0.05:
            return f"{self._damaged:.1f} s of it are damaged and were passed over"
        return _pages(self._path).missing() if self._container.format.name == "ogg" else None


def open_decoder(path: Path) -> Libsndfile | FFmpeg:
    """The library that reads most of a file.

    Raises:
        AudioFault: neither can decode it, or it is something else than audio.
    """
    if words := _not_audio(path):
        raise AudioFault(words)
    try:
        file = Libsndfile(path)
    except (RuntimeError, TypeError, ValueError) as error:  # LibsndfileError is the first
        try:
            return FFmpeg(path)
        except AudioFault as fault:
            raise AudioFault(_damaged(path) or _undecodable(error)) from fault
    if file.passes_over_sound():
        try:
            other = FFmpeg(path)
        except AudioFault:
            return file
        file.close()
        return other
    return file


def _undecodable(error: Exception) -> str:
    words = reason_of(error)
    if "not recognised" in words or "pipe" in words:  # libsndfile's guess at what is wrong
        return "its content is in no audio format that can be decoded"
    return f"cannot be decoded ({words})"


def _too_short(decoded: int, promised: float, rate: int) -> str:
    return f"holds {decoded / rate:.1f} s of the {promised / rate:.1f} s that its header promises"


def _stopped(decoded: int, promised: int, rate: int, reason: str) -> str:
    of = f" of {promised / rate:.1f} s" if promised else ""
    return f"decoding stopped after {decoded / rate:.1f} s{of} ({reason})"


def _promised(file: soundfile.SoundFile) -> int:
    if file.format in ("FLAC", "OGG"):
        return file.frames
    if file.format == "MP3":
        return max(0, file.frames - 2 * 1152)  # padding
    claims = re.findall(
        r"(?:data|SSND|BODY|Size|size|riff)\s*: (\d+) \(should be (\d+)\)", file.extra_info
    )
    claimed, actual = map(int, claims[-1]) if claims else (0, 0)
    return round(file.frames * claimed / actual) if actual and claimed < UNKNOWN_SIZE else 0


def _header_covers(mp3: Path) -> bool:
    """Whether an MP3 begins with a Xing or Info header that counts all of the file's bytes.

    Without one libsndfile stops at an estimate, which is a quarter of a file of variable bit rate;
    where it counts fewer, other recordings follow. Source: the Xing header as LAME writes it,
    gabriel.mp3-tech.org/mp3infotag.html, and ID3v2.4, section 3.1.
    """
    with mp3.open("rb") as file:
        tag = file.read(10)
        start = 0
        if tag[:3] == b"ID3" and len(tag) == 10:
            start = 10 + sum((byte & 127) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0)))
        file.seek(start)
        head = file.read(512)
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if at < 0 or len(head) < at + 16:
        return False
    flags, _, counted = struct.unpack(">III", head[at + 4 : at + 16])
    return flags & 3 == 3 and mp3.stat().st_size - start - counted <= TAGS


class _Pages:
    """Where the recordings in an Ogg file begin and end. Source: RFC 3533, section 6."""

    def __init__(self, content: mmap.mmap) -> None:
        pages = list(re.finditer(rb"OggS\0(.)", content, re.DOTALL))
        flags = [page[1][0] for page in pages]
        self.chained = self._ends = False
        if not pages:
            return
        sizes = pages[-1].start() + 27  # one byte per segment of the last page
        segments = content[sizes : sizes + content[sizes - 1]] if sizes <= len(content) else b""
        whole = bool(segments) and sizes + len(segments) + sum(segments) <= len(content)
        first = next((i for i, flag in enumerate(flags) if not flag & 2), len(flags))
        self.chained = any(flag & 2 for flag in flags[first:])  # one begins after others did
        self._ends = whole and bool(flags[-1] & 4)

    def missing(self) -> str | None:
        return None if self._ends else "its end is missing"


def _pages(ogg: Path) -> _Pages:
    with ogg.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _Pages(content)


def _head(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _not_audio(path: Path) -> str | None:
    """What a file that is not audio is instead, in people's words; None if that is not clear."""
    head = _head(path, 1 << 12)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")):
        return "is a web page, not audio: the download failed"
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not audio: type `git lfs pull`"
    if head.startswith((b"PK\3\4", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf")):
        return "is an archive, not audio"
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"%PDF")):
        return "is a picture or a document, not audio"
    if not re.search(rb"[^\t\r\n\x20-\x7e\x80-\xff]", head):
        return "is text, not audio"
    return None


def _damaged(path: Path) -> str | None:
    """What neither library can decode, in people's words; None if that is not clear."""
    head = _head(path, 1 << 16)
    if not head.strip(b"\0"):
        return f"begins with {len(head)} bytes of zeros: it is damaged"
    for magic, (kind, at) in _KINDS.items():
        if head[at:].startswith(magic):
            return f"is {kind} whose sound is missing, damaged or in an unknown encoding"
    return None


_KINDS = {
    b"ftyp": ("an MP4 or M4A file", 4),
    b"\x30\x26\xb2\x75": ("a WMA file", 0),
    b"\x1a\x45\xdf\xa3": ("a WebM or Matroska file", 0),
    b"RIFF": ("a WAV or AVI file", 0),
    b"OggS": ("an Ogg file", 0),
    b"fLaC": ("a FLAC file", 0),
}


def reason_of(error: Exception) -> str:
    """A library's message without the path that it puts before it."""
    words = getattr(error, "error_string", None) or getattr(error, "strerror", None)
    return " ".join(str(words or type(error).__name__).split()).rstrip(".")
