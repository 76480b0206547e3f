"""What passes before any work: importing, and `dvc repro` with nothing to do.

python -m benchmarks.startup
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks import ground
from benchmarks.pairs import cpu_seconds, options, per, record, rounds, row
from genrepro.core.stage import log

REPOSITORY = ground.PARAMS.parent
COURSE = (
    "from datasets import load_dataset, Audio; import evaluate, numpy; "
    "from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, "
    "TrainingArguments, Trainer"
)

REPRO = [sys.executable, "-m", "dvc", "repro"]


def main() -> None:
    args = options(__doc__, clips=0).parse_args()
    stages = list(yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
    ways = {"course": lambda: _child([sys.executable, "-c", COURSE], REPOSITORY)}
    for stage in stages:
        command = [sys.executable, "-c", f"import stages.{stage}"]
        ways[stage] = lambda command=command: _child(command, REPOSITORY)
    with tempfile.TemporaryDirectory() as name:
        copy = _reproduced(Path(name))
        if copy:
            ways["dvc"] = lambda: _child([sys.executable, "-m", "dvc", "version", "-q"], copy)
            ways["dvc repro"] = lambda: _child(REPRO, copy, "up to date")
        figures = rounds(ways, args.pairs)
    course = ("the course's imports", per(figures["course"], "cpu"))
    rows = [
        row(f"imports, CPU, {stage}", "s", course, ("here", per(figures[stage], "cpu")))
        for stage in stages
    ]
    if copy:
        dvc = ("starting dvc alone", per(figures["dvc"], "cpu"))
        rows.append(
            row(
                "dvc repro, nothing to do, CPU",
                "s",
                dvc,
                ("here", per(figures["dvc repro"], "cpu")),
            )
        )
    record("startup", args.results, {}, rows)


def _child(command: list[str], folder: Path, answer: str = "") -> dict[str, float]:
    wall, cpu = time.perf_counter(), cpu_seconds()
    done = subprocess.run(
        command,
        cwd=folder,
        env=ground.repository(),
        check=True,
        capture_output=True,
        text=True,
    )
    assert answer in done.stdout, done.stdout
    return {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}


def _reproduced(home: Path) -> Path | None:
    """A copy of this repository in which `dvc repro` has nothing to do; None if it never ran here.

    What stands in it is taken as what the code gives.
    """
    if not (REPOSITORY / "dvc.lock").exists() or not (REPOSITORY / "data/encoded").exists():
        log("dvc repro: not measured, for it has not run here yet")
        return None
    copy = home / "copy"
    ignored = shutil.ignore_patterns(".venv", ".resume", "cache", "tmp", "__pycache__", ".*_cache")
    shutil.copytree(REPOSITORY, copy, ignore=ignored, symlinks=True)
    subprocess.run(
        [sys.executable, "-m", "dvc", "commit", "--force"],
        cwd=copy,
        env=ground.repository(),
        check=True,
        capture_output=True,
    )
    return copy


if __name__ == "__main__":
    main()
