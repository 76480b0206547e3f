"""Worker processes: as many as there are cores, the same results, and nothing left running."""

import os
import signal
import subprocess
import sys
import time

import pytest

from genrepro.core import processes
from genrepro.core.errors import PipelineError
from tests.support.samples import ROOT


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_an_impossible_number_of_workers_is_refused(monkeypatch, value):
    monkeypatch.setenv("GENREPRO_WORKERS", value)
    with pytest.raises(PipelineError, match="GENREPRO_WORKERS"):
        processes.workers()


def test_the_processes_of_a_launcher_share_the_cores_of_their_machine(monkeypatch):
    monkeypatch.delenv("GENREPRO_WORKERS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16))
    assert processes.workers() == 16
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert (processes.rank(), processes.world(), processes.workers()) == (0, 1, 16)  # no launcher's
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (processes.rank(), processes.world(), processes.workers()) == (5, 8, 4)


SCRIPT = r"""
import os, sys, time
from genrepro.core.processes import map_processes
from genrepro.core.stage import run

def work(item):
    os.write(1, b"%d\n" % os.getpid())  # in one piece, whoever else writes
    if item == sys.argv[1]:
        os._exit(1)
    time.sleep(float(sys.argv[2]))
    return item * 2

if __name__ == "__main__":
    run(lambda: print(map_processes(work, list("abcd"), "work", fork=sys.argv[3] == "fork")))
"""


@pytest.fixture(params=["fork", "spawn"])
def start(request, tmp_path):
    """Start SCRIPT in a process group of its own: start(item whose worker dies, seconds)."""
    (tmp_path / "script.py").write_text(SCRIPT)

    def popen(dies: str, seconds: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(tmp_path / "script.py"), dies, seconds, request.param],
            env=os.environ | {"GENREPRO_WORKERS": "2", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return popen


def test_results_come_in_the_order_of_the_items(start):
    out, _ = start("", "0").communicate(timeout=60)
    assert out.splitlines()[-1] == "['aa', 'bb', 'cc', 'dd']"


def test_a_worker_that_dies_is_one_sentence(start):
    process = start("b", "0")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error.startswith("error: work: a worker process died") and error.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("group", [True, False], ids=["to all", "to the parent"])
def test_a_signal_ends_parent_and_workers_without_a_traceback(start, number, group):
    process = start("", "60")
    workers = [int(process.stdout.readline()) for _ in range(2)]
    (os.killpg if group else os.kill)(process.pid, number)
    _, error = process.communicate(timeout=30)
    assert process.returncode in (1, -signal.SIGKILL)
    assert "Traceback" not in error
    assert error.endswith("run the same command again to resume.\n") or number == signal.SIGKILL
    deadline = time.monotonic() + 10
    while any(map(running, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - a zombie has ended
        return file.read().rpartition(")")[2].split()[0] != "Z"
