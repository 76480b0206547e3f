"""Each benchmark runs, on two clips of a second, and its rows come out in the table."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from hub_contents import DISTILHUBERT_CONFIG

TINY = {
    "encode": [],
    "read": [],
    "memory": ["--few", "2", "--many", "3", "--pairs", "1"],
    "step": ["--batch", "1", "--threads", "1"],
    "train": ["--narrow", "--threads", "1"],
    "inference": ["--narrow", "--threads", "1", "--parity", "1", "--batches", "1", "2"],
}


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_runs(name, tmp_path):
    common = ["--clips", "2", "--seconds", "1", "--pairs", "2", "--results", str(tmp_path)]
    run(f"benchmarks.{name}", *common, *TINY[name])
    found = json.loads(next(tmp_path.glob("*.json")).read_text())["benchmarks"][name]
    assert found["rows"]
    for row in found["rows"]:
        assert 0 < row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"]
        assert len(row["course"]["values"]) == len(row["ours"]["values"])
    assert str(tmp_path) not in json.dumps(found)
    table = run("benchmarks.table", "--results", str(tmp_path))
    assert found["rows"][0]["what"] in table
    assert "not measured" in table


def test_the_shape_is_distilhuberts():
    from benchmarks.ground import distilhubert

    ours = distilhubert().to_dict()
    same = set(DISTILHUBERT_CONFIG) - {"architectures"}
    assert {key: ours[key] for key in same} == {key: DISTILHUBERT_CONFIG[key] for key in same}
