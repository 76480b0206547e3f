"""Ctrl-C and SIGTERM before and after the work itself: one sentence and exit code 1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    f"{room}.{path.stem}"
    for room in ("stages", "tools")
    for path in (ROOT / room).iterdir()
    if path.stem not in ("__init__", "__pycache__")
)
SLOW = "print('importing', flush=True); import time; time.sleep(60)"
MAIN = """
import atexit, time
from genrepro.runtime import run
atexit.register(lambda: (print('closing down', flush=True), time.sleep(60)))
run(lambda: print('done', flush=True))
"""


def started(*arguments: str, path: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def one_sentence(process: subprocess.Popen, number: signal.Signals) -> None:
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said == "error: interrupted; the same command goes on from here.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_is_still_importing(in_tmp, program, number):
    for module in ("csv", "numpy", "yaml"):  # one of these is early in each, and takes long here
        (in_tmp / f"{module}.py").write_text(SLOW)
    process = started("-m", program, path=in_tmp)
    assert process.stdout.readline() == "importing\n"
    one_sentence(process, number)


def test_a_stage_that_imports_torch(in_tmp):
    process = started("-X", "importtime", "-m", "stages.encode", path=in_tmp)
    loading = next(line for line in process.stderr if line.endswith(" torch._C\n"))
    assert loading
    process.terminate()
    said = [line for line in process.stderr if not line.startswith("import time:")]
    assert process.wait(30) == 1
    assert said == ["error: interrupted; the same command goes on from here.\n"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_that_is_closing_down(in_tmp, number):
    (in_tmp / "stages").mkdir()
    (in_tmp / "stages/__init__.py").write_text((ROOT / "stages/__init__.py").read_text())
    (in_tmp / "stages/short.py").write_text(MAIN)
    process = started("-m", "stages.short", path=in_tmp)
    assert process.stdout.readline() == "done\n"
    assert process.stdout.readline() == "closing down\n"
    one_sentence(process, number)


def test_who_imports_a_stage_keeps_its_own_signals(in_tmp):
    before = signal.getsignal(signal.SIGTERM)
    code = "import signal, stages; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    process = started("-c", code, path=in_tmp)
    assert process.communicate(timeout=30)[0] == "True\n"

    from genrepro.core import stage

    stage.run(lambda: None)
    assert signal.getsignal(signal.SIGTERM) == before
