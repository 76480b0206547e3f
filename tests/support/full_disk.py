"""Run each stage on a full file system, then again with room: one sentence, then the same bytes.

python -m tests.support.full_disk            # as root: it mounts a small file system in memory
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
from tests.support.torture import Torture
from tests.support.torture_place import Differs, Place, copy_tree

SIZE_MB = 400
SHARES = (0.1, 0.6)  # of what a stage writes: so much room is left


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
    """A place on the small disk in which every stage up to the last of `stages` ran once."""
    (folder / "clone").mkdir()
    torture = Torture(Place(copy_tree(folder / "clone"), through_dvc=False), 0, stages)
    torture.place.log = Path(tempfile.gettempdir()) / f"full-disk-{os.getpid()}.log"
    torture.undisturbed()
    return torture


def try_full(torture: Torture, stage: str, share: float) -> str:
    """Run a stage with too little room, then with enough; give the sentence that it ended with.

    Raises:
        Differs: it ended otherwise, or left something that looks whole, or gave other bytes then.
    """
    place = torture.place
    written = sum(size(place.root / path) for path in place.outputs(stage))
    place.remove_outputs(stage)
    ballast = fill(place.root.parent / "ballast", leave=int(share * written))
    process = place.start(stage)
    code, said = process.wait(300), place.said()
    if code != 1 or "Traceback" in said or "the disk is full" not in said.splitlines()[-1]:
        raise Differs(f"{stage} with a full disk ended with {code}:\n{said[-3000:]}")
    for path in place.outputs(stage):
        whole = torture.reference[stage][path]
        if (place.root / path).is_file() and place.hashes(stage)[path] != whole:
            raise Differs(f"{stage} with a full disk left a half-written {path}")
    ballast.unlink()
    place.remove_outputs(stage)  # as DVC does
    place.run(stage)
    if place.hashes(stage) != torture.reference[stage]:
        raise Differs(f"{stage}, after a full disk, gave other bytes")
    return said.splitlines()[-1]


def size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def fill(path: Path, leave: int) -> Path:
    """Write a file that leaves so many bytes of its file system free."""
    free = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - max(leave, 4096)))
    return path


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder)):
        place = Place(Path(__file__).parents[2])
        stages = list(place.stages)
        torture = prepared(Path(folder), stages)
        for stage in stages:
            for share in SHARES:
                print(f"{stage}, {share:.0%} of the room: ", end="", flush=True)
                print(try_full(torture, stage, share), flush=True)


if __name__ == "__main__":
    main()
