"""Each benchmark runs, on two clips of a second, and its rows come out in the table."""

import functools
import importlib
import json
import os
import shlex
import subprocess
import sys

import pytest
import torch

from tests.support.hub_contents import DISTILHUBERT_CONFIG
from tests.support.samples import ROOT

TINY = {
    "encode": [],
    "read": [],
    "memory": ["--few", "2", "--many", "3", "--pairs", "1"],
    "step": ["--batch", "1", "--threads", "1"],
    "train": ["--narrow", "--threads", "1", "--pairs", "1"],
    "gpu": shlex.split("--narrow --device cpu --batch 1 --epochs 2 --steps 1 --pairs 1"),
    "inference": [
        "--narrow",
        "--threads",
        "1",
        "--pairs",
        "1",
        "--parity",
        "1",
        "--batches",
        "1",
        "2",
    ],
}


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a benchmark's `main` as from the command line, and return what it printed.

    In this process, which imports the libraries once; the measured processes of `memory` too.
    """
    from benchmarks import ground, memory

    @functools.cache
    def peak(way: str) -> float:
        with ground.workplace(2, 1.0) as paths:
            return memory.WAYS[way](paths)

    monkeypatch.setattr(memory, "_child", lambda way, clips, seconds: peak(way))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def main(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        capsys.readouterr()
        importlib.import_module(f"benchmarks.{name}").main()
        return capsys.readouterr().out

    return main


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_runs(name, run, tmp_path):
    common = ["--clips", "2", "--seconds", "1", "--pairs", "2", "--results", str(tmp_path)]
    run(name, *common, *TINY[name])
    found = json.loads(next(tmp_path.glob("*.json")).read_text())["benchmarks"][name]
    assert found["command"].startswith(f"python -m benchmarks.{name} --clips 2")
    assert found["rows"]
    for row in found["rows"]:
        assert 0 < row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
        assert len(row["course"]["values"]) == len(row["ours"]["values"])
    assert str(tmp_path) not in json.dumps(found)
    table = run("table", "--results", str(tmp_path))
    assert found["rows"][0]["what"] in table
    assert ("not measured" in table) == (name != "gpu")


def test_a_peak_of_memory_is_that_of_a_process_of_its_own():
    """The command that `memory` starts for each figure."""
    words = shlex.split("-m benchmarks.memory --way encode --clips 2 --seconds 1")
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert 100 < float(done.stdout.split()[-1]) < 2000


def test_the_shape_is_distilhuberts():
    from benchmarks.ground import distilhubert

    ours = distilhubert().to_dict()
    same = set(DISTILHUBERT_CONFIG) - {"architectures"}
    assert {key: ours[key] for key in same} == {key: DISTILHUBERT_CONFIG[key] for key in same}


def test_without_a_gpu_the_gpus_benchmark_says_what_to_type(run, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match="2"):
        run("gpu")
    assert "python -m benchmarks.train" in capsys.readouterr().err
