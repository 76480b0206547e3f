"""A copy of this repository in which stages are run and killed, and their outputs compared."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import yaml
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid

from tests.support.pipeline_repo import Clone

NOTHING = "nothing"
PATIENCE = 600  # seconds for one stage, however loaded the machine is


class Differs(Exception):
    """A run after a kill failed, or gave other bytes than the undisturbed one."""


class Place:
    """A copy of the project that stages are run and killed in."""

    def __init__(self, root: Path, through_dvc: bool = True) -> None:
        self.root, self.through_dvc = root, through_dvc
        self.stages: dict[str, dict] = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
        self.log = root.parent / f"{root.name}.log"

    def outputs(self, stage: str) -> list[str]:
        """The paths of a stage's outputs."""
        kinds = (self.stages[stage].get(kind, []) for kind in ("outs", "metrics", "plots"))
        entries = [entry for kind in kinds for entry in kind]
        return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]

    def start(self, stage: str) -> subprocess.Popen:
        """Start a stage in a process group of its own; what it prints goes to `self.log`."""
        return Clone(self.root).start(self.log, *self._command(stage))

    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str, process: subprocess.Popen) -> None:
        """Wait until the stage has printed `words`, or has ended."""
        while process.poll() is None and words not in self.printed():
            time.sleep(0.005)

    def run(self, stage: str, kill_after: float | None = None) -> float | None:
        """Run one stage to its end: the seconds it took; None if it was killed.

        Args:
            kill_after: seconds after the stage's own command began.

        Raises:
            Differs: it ended with an error, or did not end.
        """
        lock = self.root / "dvc.lock"
        self.lock = lock.read_text() if lock.exists() else ""
        process = self.start(stage)
        if self.through_dvc:
            self.wait_for(f"> python -m stages {stage}\n", process)
        start = time.perf_counter()
        try:
            process.wait(PATIENCE if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if kill_after is None:
                raise Differs(f"{stage} did not end in {PATIENCE} s") from None
            return None
        if process.returncode:
            raise Differs(f"{stage} ended with {process.returncode}:\n{self.printed()[-3000:]}")
        return time.perf_counter() - start

    def _command(self, stage: str) -> list[str]:
        if self.through_dvc:
            return ["dvc", "repro", "--no-run-cache", "-s", stage]
        return ["python", "-m", "stages", stage]

    def put_back(self, stage: str, keep_outputs: bool) -> None:
        """As if `stage` had never run; what it wrote may still be there."""
        if self.through_dvc:
            lock = yaml.safe_load((self.root / "dvc.lock").read_text())
            lock["stages"].pop(stage, None)
            (self.root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
        if not keep_outputs:
            self.remove_outputs(stage)

    def restore_lock(self) -> bool:
        """Restore dvc.lock, as `git restore` does, if DVC, which writes it in place, cut it."""
        lock = self.root / "dvc.lock"
        try:
            if lock.exists():
                COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(lock.read_text()))
        except (yaml.YAMLError, Invalid):
            lock.write_text(self.lock)
            return True
        return False

    def remove_outputs(self, stage: str) -> None:
        for path in map(self.root.joinpath, self.outputs(stage)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def left_behind(self, stage: str) -> bool:
        """Whether a draft of one of a stage's outputs or unfinished work is there."""
        outputs = [self.root / path for path in self.outputs(stage)]
        drafts = [path.with_name(f".{path.name}.part") for path in outputs]
        unfinished = self.root / ".resume" / stage
        return any(path.exists() for path in drafts) or any(unfinished.rglob("*.*"))

    def hashes(self, stage: str) -> dict[str, str]:
        """Each output: the SHA-256 of its files and names, and what dvc.lock says of it."""
        found = self.on_disk(stage)
        if self.through_dvc:
            lock = yaml.safe_load((self.root / "dvc.lock").read_text())["stages"][stage]
            found |= {f"dvc.lock: {out['path']}": out["md5"] for out in lock["outs"]}
        return found

    def on_disk(self, stage: str) -> dict[str, str]:
        """Each output: the SHA-256 of its files and names, or NOTHING."""
        return {path: tree_sha256(self.root / path) for path in self.outputs(stage)}


def tree_sha256(path: Path) -> str:
    """One hash for a file or for all files of a folder with their names."""
    if not path.exists():
        return NOTHING
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
