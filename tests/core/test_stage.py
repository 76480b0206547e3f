"""How a stage ends: errors that a person can fix are one sentence, others keep their traceback."""

import errno
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from genrepro.core import params, processes, stage
from genrepro.core.errors import PipelineError, explain
from tests.support.samples import ROOT


@pytest.fixture(autouse=True)
def own_signals(monkeypatch):
    """`stage.run` sets up its process: here that is the process of the tests."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (PipelineError("no clips in x: add some."), "error: no clips in x: add some."),
        (
            OSError(errno.ENOSPC, "No space left", "data/raw"),
            "data/raw: no space left on device; free some disk space, then run",
        ),
        (OSError(errno.EROFS, "Read-only", "data"), "data: read-only file system; make it"),
        (PermissionError(errno.EACCES, "Permission denied", "data"), "data: permission denied"),
        (PermissionError(errno.EACCES, "Permission denied", "{a}.wav"), "{a}.wav: permission"),
        (OSError(errno.ENOSPC, "No space left", "from", None, "to"), "to: no space"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space left"),
        (RuntimeError("[enforce fail] unexpected pos 64 vs 0"), "no space left"),
        (KeyboardInterrupt(), "interrupted; run the same command again"),
        (MemoryError(), "out of memory"),
        (RuntimeError("[…] DefaultCPUAllocator: can't allocate memory: you […]"), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), "out of memory"),
    ],
)
def test_what_a_person_can_fix_ends_with_one_sentence(raised, message):
    def main():
        raise raised

    with pytest.raises(SystemExit) as caught:
        stage.run(main)
    assert caught.value.code.startswith("error: ") and message in caught.value.code
    assert "\n" not in caught.value.code


def test_a_bug_keeps_its_traceback():
    def main():
        raise FileNotFoundError(errno.ENOENT, "No such file", "x")

    with pytest.raises(FileNotFoundError):
        stage.run(main)


def test_under_a_launcher_other_ranks_let_rank_0_report_first(monkeypatch, capsys):
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    events = []
    monkeypatch.setattr(stage.time, "sleep", events.append)
    monkeypatch.setattr(stage.os, "_exit", sys.exit)
    monkeypatch.setattr(processes, "end_with_parent", lambda: None)

    def fail(error: BaseException):
        raise error

    with pytest.raises(SystemExit) as caught:
        stage.run(lambda: fail(PipelineError("broken.")))
    assert events == [stage.RANK_0_FIRST] and caught.value.code == 1
    assert capsys.readouterr().err == "error: broken.\n"
    with pytest.raises(SystemExit) as caught:  # by the launcher, or at the terminal
        stage.run(lambda: fail(KeyboardInterrupt()))
    assert caught.value.code == 1 and capsys.readouterr().err == ""


def test_seconds_and_memory_go_to_metrics_speed(in_tmp):
    with stage.record_speed("encode") as figures:
        figures["clips"] = 3
    written = json.loads((in_tmp / "metrics/speed/encode.json").read_text())
    assert written["clips"] == 3 and written["seconds"] >= 0 and written["peak_memory_mb"] > 1


def test_an_experiment_keeps_its_seconds_in_the_repository_that_it_was_started_from(
    in_tmp, monkeypatch
):
    monkeypatch.setenv("DVC_EXP_NAME", "lone-wolf")
    monkeypatch.setenv("DVC_ROOT", str(in_tmp / "repository"))
    with stage.record_speed("encode"):
        pass
    kept = in_tmp / "repository/metrics/speed/lone-wolf/encode.json"
    assert kept.read_text() == (in_tmp / "metrics/speed/encode.json").read_text()


def test_a_python_without_the_packages_is_one_sentence_with_what_to_type(tmp_path):
    """-I and -S: as in an environment that holds the standard library alone."""
    program = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['train']; "
    program += "runpy.run_module('stages', run_name='__main__')"
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: the package pydantic is not installed for ")
    assert "`make install`" in done.stderr and "`source .venv/bin/activate`" in done.stderr
    missing = ModuleNotFoundError("No module named 'genrepro.nothing'", name="genrepro.nothing")
    assert explain(missing) is None  # ours, and a mistake


@pytest.mark.parametrize("argv", [[], ["trian"], ["train", "more"]])
def test_an_unknown_stage_is_answered_with_the_known_ones(argv):
    command = [sys.executable, "-m", "stages", *argv]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: type `python -m stages NAME`")
    assert "prepare, train" in done.stderr


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("prepare", "dvc repro fetch_data"),
        ("encode", "dvc repro fetch_data"),
        ("train", "dvc repro encode"),
        ("evaluate", "dvc repro encode"),
        ("export", "dvc repro"),
    ],
)
def test_a_stage_without_its_input_says_which_stage_makes_it(in_tmp, name, maker):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    with pytest.raises(PipelineError, match=f"is missing.*`{maker}`|holds no.*`{maker}`"):
        importlib.import_module(f"stages.{name}").main(params.load())


def test_a_stage_ends_with_its_dvc_and_the_next_one_waits(in_tmp):
    """DVC killed alone leaves its stage running: that must end, and not overwrite the next one."""
    script = (
        "import time; from pathlib import Path; from genrepro.core.stage import record_speed, run\n"
        "def main():\n"
        "    with record_speed('x'):\n"
        "        print('at work', flush=True); time.sleep(SECONDS); Path('done').touch()\n"
        "run(main)"
    )
    environment = os.environ | {"DVC_STAGE": "x", "PYTHONPATH": str(ROOT)}
    call = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    dvc = subprocess.Popen(
        [sys.executable, "-c", call, script.replace("SECONDS", "60")],
        env=environment,
        stdout=subprocess.PIPE,
    )
    assert dvc.stdout.readline() == b"at work\n"
    waiting = subprocess.Popen(
        [sys.executable, "-c", script.replace("SECONDS", "0")],
        env=environment,
        stdout=subprocess.PIPE,
    )
    assert b"waiting for it to end" in waiting.stdout.readline()
    dvc.kill()
    assert waiting.wait(120) == 0
    assert (in_tmp / "done").exists()
