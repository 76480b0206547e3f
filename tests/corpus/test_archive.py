"""Tarballs: nothing is written outside the shelf, and damage is reported in one sentence."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from genrepro.core.errors import PipelineError
from genrepro.corpus import archive, folder
from genrepro.corpus.shelf import Shelf

RATE = 16_000


def put(path: Path, seed: int = 0, seconds: float = 0.3) -> Path:
    wave = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    soundfile.write(path, wave, RATE)
    return path


def unpack(path: Path, shelf: Shelf) -> None:
    folder.take(archive.unpack(path, shelf.root / "unpacked", shelf), shelf, move=True)
    shutil.rmtree(shelf.root / "unpacked")


def tarball(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as packed:
        for member, content in members:
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_nothing_is_written_outside_the_shelf(tmp_path):
    sounds = [put(tmp_path / "x.wav", seed, 0.2 + seed / 50).read_bytes() for seed in range(40)]
    good = [(member(f"./deep/{n % 2}/{n}.WAV"), sound) for n, sound in enumerate(sounds)]
    bad = [
        (member("/etc/cat/absolute.wav"), b"x"),
        (member("a/../../cat/up.wav"), b"x"),
        (member("cat/link.wav", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (member("cat/hard.wav", tarfile.LNKTYPE, "0/0.wav"), b""),
        (member("cat/device.wav", tarfile.CHRTYPE), b""),
        (member("cat/pipe.wav", tarfile.FIFOTYPE), b""),
        (member("cat/._mac.wav"), b"x"),
        (member("bare.wav"), b"x"),
    ]
    shelf = Shelf(tmp_path / "raw")
    unpack(tarball(tmp_path / "x.tar.gz", good + bad + [(member("cat/a.txt"), b"x")]), shelf)
    assert {item.source for item in shelf.items} == {info.name[2:] for info, _ in good}
    assert set(shelf.skipped) == {info.name for info, _ in bad}
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "x.tar.gz", "x.wav"}
    for item in shelf.items:
        assert item.path.read_bytes() == sounds[int(item.stem)]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
def test_a_tarball_that_is_cut_short_is_refused(tmp_path, mode):
    sounds = [put(tmp_path / "x.wav", seed).read_bytes() for seed in range(3)]
    path = tarball(tmp_path / "x", [(member(f"a/{n}.wav"), s) for n, s in enumerate(sounds)], mode)
    path.write_bytes(path.read_bytes()[: 2 * path.stat().st_size // 3])
    with pytest.raises(PipelineError, match="cut short"):
        unpack(path, Shelf(tmp_path / "raw"))


def test_damaged_tarballs_are_read_or_refused(tmp_path):
    """A hundred of them, with a fixed seed."""
    sound = put(tmp_path / "x.wav").read_bytes()
    members = [(member(f"a/{n}.wav"), sound) for n in range(4)]
    random = np.random.default_rng(3)
    outcomes = {"read": 0, "refused": 0}
    for number in range(100):
        mode = ("w", "w:gz", "w:bz2", "w")[number % 4]
        path = tarball(tmp_path / "x.tar", members, mode)
        content = np.frombuffer(path.read_bytes(), np.uint8).copy()
        at = random.integers(0, len(content) if number % 8 else 512, 6)
        content[at] = random.integers(0, 256, 6)
        path.write_bytes(content[: None if number % 3 else random.integers(len(content))].tobytes())
        try:
            unpack(path, Shelf(tmp_path / f"raw{number}"))
            outcomes["read"] += 1
        except PipelineError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0
