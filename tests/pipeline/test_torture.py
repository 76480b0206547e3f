"""Stages that are killed or interrupted resume, and give the bytes of an undisturbed run.

A short form of `python -m tests.support.torture`.
"""

from __future__ import annotations

import os
import shutil
import signal
import time

import pytest

from tests.support.torture import Torture
from tests.support.torture_place import Differs, Place

pytestmark = pytest.mark.slow
SEED = int(os.environ.get("GENREPRO_TORTURE_SEED", time.time()))
STAGES = ["fetch_data", "encode", "train"]


@pytest.fixture(scope="module")
def torture(repo, tmp_path_factory) -> Torture:
    """A finished run, in which the stages to be killed have run once more, for their duration."""
    clone = repo.copy(tmp_path_factory.mktemp("torture") / "clone")
    clone.set(train__epochs=4)  # enough to be interrupted twice
    place = Place(clone.path, through_dvc=False)
    torture = Torture(place, SEED, STAGES)
    for stage in STAGES:
        torture.seconds[stage] = place.run(stage)
        torture.reference[stage] = place.hashes(stage)
    return torture


def test_a_stage_that_was_killed_at_any_moment_gives_the_same_bytes(torture):
    try:
        list(torture.kill("fetch_data", 2))
    except Differs as fault:
        pytest.fail(f"seed {SEED}: {fault}")


def test_training_that_was_killed_and_interrupted_resumes_to_the_same_bytes(torture):
    place = torture.place
    process = place.start("train")
    place.wait_for("epoch   1", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    process = place.start("train")
    place.wait_for("epoch   2", process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 1
    printed = place.printed()
    assert "Traceback" not in printed
    assert printed.splitlines()[-1].startswith("error: SIGTERM received; a checkpoint is")
    assert place.hashes("train") == torture.reference["train"]  # the previous model is still there

    place.remove_outputs("train")
    place.run("train")
    assert "from checkpoint-" in place.printed()
    assert place.hashes("train") == torture.reference["train"]
    assert not list((place.root / ".resume/train").glob("*"))


def test_encoding_that_was_killed_and_interrupted_resumes_to_the_same_bytes(torture):
    """The signal goes to every process of the group, as Ctrl-C does at a terminal."""
    place = torture.place
    place.run("encode", kill_after=torture.random.random() * torture.seconds["encode"])

    shutil.rmtree(place.root / ".resume/encode", ignore_errors=True)
    process = place.start("encode")
    while process.poll() is None and not list((place.root / ".resume/encode").glob("*/*.json")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) == 1
    assert place.printed().splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in place.printed()

    place.remove_outputs("encode")
    place.run("encode")
    assert place.hashes("encode") == torture.reference["encode"]


@pytest.mark.parametrize(
    "cut", ["", "schema: '2.", "schema: '2.0'\nstages:\n  a:\n    cmd: x\n    ou"]
)
def test_a_lock_that_dvc_was_writing_is_restored(tmp_path, cut):
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    place, lock = Place(tmp_path), tmp_path / "dvc.lock"
    assert not place.restore_lock() and not lock.exists()
    place.lock = "schema: '2.0'\nstages:\n  a:\n    cmd: x\n"
    lock.write_text(place.lock)
    assert not place.restore_lock()
    lock.write_text(cut)
    assert place.restore_lock() and lock.read_text() == place.lock
