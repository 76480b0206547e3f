"""Run each stage on a full file system, then again with room: one error, then the same bytes.

python -m tests.support.full_disk            # as root: it mounts a small file system in memory
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import pipeline_repo
from tests.support.samples import ROOT
from tests.support.torture import PARAMS, Torture
from tests.support.torture_place import PATIENCE, Differs, Place

SIZE_MB = 400
SHARES = (0.1, 0.6)  # of what a stage writes: the room that is left


class NotAllowed(Exception):
    """This user may not mount."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of SIZE_MB at `folder`.

    Raises:
        NotAllowed: only root may.
    """
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "genrepro-test", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotAllowed from error
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def prepared(folder: Path, stages: list[str]) -> Torture:
    """A place on the small disk in which every stage up to the last of `stages` has run once."""
    clone = pipeline_repo.clone(folder / "clone", **PARAMS)
    torture = Torture(Place(clone.path, through_dvc=False), 0, stages)
    torture.place.log = Path(tempfile.gettempdir()) / f"full-disk-{os.getpid()}.log"
    torture.undisturbed()
    return torture


def try_full(torture: Torture, stage: str, share: float) -> str:
    """Run a stage with too little room, then with enough; return the error that it ended with.

    Raises:
        Differs: it ended otherwise, or changed what was there, or gave other bytes then.
    """
    place = torture.place
    written = sum(size(place.root / path) for path in place.outputs(stage))
    ballast = fill(place.root.parent / "ballast", leave=int(share * written))
    process = place.start(stage)
    code, printed = process.wait(PATIENCE), place.printed()
    if code != 1 or "Traceback" in printed or "no space left" not in printed.splitlines()[-1]:
        raise Differs(f"{stage} with a full disk ended with {code}:\n{printed[-3000:]}")
    if place.hashes(stage) != torture.reference[stage]:
        raise Differs(f"{stage} with a full disk changed what was there")
    ballast.unlink()
    place.remove_outputs(stage)
    place.run(stage)
    if place.hashes(stage) != torture.reference[stage]:
        raise Differs(f"{stage}, after a full disk, gave other bytes")
    return printed.splitlines()[-1]


def size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def fill(path: Path, leave: int) -> Path:
    """Write a file that leaves `leave` bytes of its file system free."""
    free = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - max(leave, 4096)))
    return path


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder)):
        stages = list(Place(ROOT).stages)
        torture = prepared(Path(folder), stages)
        for stage in stages:
            for share in SHARES:
                print(f"{stage}, {share:.0%} of the room: ", end="", flush=True)
                print(try_full(torture, stage, share), flush=True)


if __name__ == "__main__":
    main()
