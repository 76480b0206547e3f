"""Killed, told to stop, orphaned: stages go on and give the bytes of an undisturbed run.

The short form of `python -m tests.support.torture`, with real processes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from genrepro.core import resume
from tests.support.torture import Torture
from tests.support.torture_place import ROOT, Differs, Place

SEED = int(os.environ.get("GENREPRO_TORTURE_SEED", time.time()))
STAGES = ["fetch_data", "encode", "train"]


@pytest.fixture(scope="module")
def torture(repo, tmp_path_factory) -> Torture:
    """A finished run, of which the stages that are killed have run once more, for their seconds."""
    clone = repo.copy(tmp_path_factory.mktemp("torture") / "clone")
    clone.set(train__epochs=4)  # enough to be stopped in twice
    place = Place(clone.path, through_dvc=False)
    torture = Torture(place, SEED, STAGES)
    for stage in STAGES:
        place.remove_outputs(stage)
        torture.seconds[stage] = place.run(stage)
        torture.reference[stage] = place.hashes(stage)
    return torture


def test_killed_at_any_moment_a_stage_gives_the_same_bytes(torture):
    try:
        list(torture.kill("fetch_data", 2))
    except Differs as fault:
        pytest.fail(f"seed {SEED}: {fault}")


def test_training_is_killed_then_told_to_stop_then_goes_on_to_the_same_bytes(torture):
    place = torture.place
    place.remove_outputs("train")
    process = place.start("train")
    place.wait_for("epoch   1", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    process = place.start("train")
    place.wait_for("epoch   2", process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
    said = place.said()
    assert "error: SIGTERM received; a checkpoint is kept" in said and "Traceback" not in said

    place.remove_outputs("train")
    place.run("train")
    assert "going on from checkpoint-" in place.said()
    assert place.hashes("train") == torture.reference["train"]
    assert not list((place.root / ".resume/train").glob("*")), "a checkpoint that is done with"


def test_encoding_is_killed_then_told_to_stop_then_goes_on_to_the_same_bytes(torture):
    """The signal goes to every process of the group, as Ctrl-C does at a terminal."""
    place = torture.place
    place.remove_outputs("encode")
    place.run("encode", kill_after=torture.random.random() * torture.seconds["encode"])

    shutil.rmtree(place.root / ".resume/encode", ignore_errors=True)
    process = place.start("encode")
    while process.poll() is None and not list((place.root / ".resume/encode").glob("*/*.json")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 1
    assert place.said().splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in place.said()

    place.remove_outputs("encode")
    place.run("encode")
    assert place.hashes("encode") == torture.reference["encode"]


def test_a_stage_ends_with_its_dvc_and_the_next_one_waits(in_tmp):
    """DVC killed alone leaves its stage running: that must end, and not write over the next's."""
    script = (
        "import time; from pathlib import Path; from genrepro.runtime import measured, run\n"
        "def main():\n"
        "    with measured('x'):\n"
        "        print('at work', flush=True); time.sleep(SECONDS); Path('done').touch()\n"
        "run(main)"
    )
    environment = os.environ | {"DVC_STAGE": "x", "PYTHONPATH": str(ROOT)}
    dvc = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])",
            script.replace("SECONDS", "60"),
        ],
        env=environment,
        stdout=subprocess.PIPE,
    )
    assert dvc.stdout.readline() == b"at work\n"
    dvc.kill()
    start = time.perf_counter()
    again = subprocess.run(
        [sys.executable, "-c", script.replace("SECONDS", "0")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert time.perf_counter() - start < 15 and (in_tmp / "done").exists()
    assert "waiting for it to end" in again.stdout and again.returncode == 0


def test_unfinished_work_is_found_by_the_same_inputs_alone_and_never_by_halves(in_tmp):
    source = in_tmp / "code.py"
    source.write_text("one")

    def folder(packages=("numpy",), **parts):
        return resume.folder("train", parts, [str(source)], list(packages))

    first = folder(rate=1)
    (first / "checkpoint").touch()
    assert folder(rate=1) == first and (first / "checkpoint").exists()
    others = [folder(rate=2), folder(rate=1, packages=("torch",))]
    source.write_text("two")
    others.append(folder(rate=1))
    source.write_text("one")
    assert len({first, *others}) == 4
    assert not (folder(rate=1) / "checkpoint").exists()
    first.with_suffix(".gone").mkdir()  # killed while it was removed
    assert folder(rate=1) == first and [path.name for path in first.parent.iterdir()] == [
        first.name
    ]


@pytest.mark.parametrize(
    "cut", ["", "schema: '2.", "schema: '2.0'\nstages:\n  a:\n    cmd: x\n    ou"]
)
def test_a_lock_that_dvc_was_writing_is_put_back(tmp_path, cut):
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    place, lock = Place(tmp_path), tmp_path / "dvc.lock"
    assert not place.mend_lock() and not lock.exists()
    place.lock = "schema: '2.0'\nstages:\n  a:\n    cmd: x\n"
    lock.write_text(place.lock)
    assert not place.mend_lock()
    lock.write_text(cut)
    assert place.mend_lock() and lock.read_text() == place.lock
