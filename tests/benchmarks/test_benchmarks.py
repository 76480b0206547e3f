"""Each benchmark runs on tiny clips, and its rows appear in the table."""

import importlib
import json
import shlex
import sys

import pytest
import torch

from tests.support.hub_contents import DISTILHUBERT_CONFIG

TINY = {
    "cpu": "--clips 2 --seconds 1 --steps 2 --rounds 2",
    "whole": "--clips 100 --seconds 0.5 --epochs 1 --rounds 1",
    "gpu": (
        "--device cpu --clips 18 --held-out 1 --seconds 1 --batch 2 --epochs 1 --steps 9 "
        "--levers params.yaml freeze=convolutions fast_kernels=false --profile params.yaml"
    ),
}


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a benchmark's `main` as from the command line; return its results and its output.

    Everything runs in this process, which imports the libraries once.
    """
    from benchmarks import setup

    monkeypatch.setattr(setup, "alone", lambda function, *arguments, **_: function(*arguments))

    def main(name: str, *arguments: str) -> tuple[dict, str]:
        words = [f"{name}.py", *arguments, "--results", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", words)
        importlib.import_module(f"benchmarks.{name}").main()
        found = json.loads(next(tmp_path.glob("*.json")).read_text())["benchmarks"]
        return found, capsys.readouterr().out

    return main


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_runs(name, run, tmp_path):
    found = run(name, "--narrow", "--threads", "1", *shlex.split(TINY[name]))[0][name]
    assert found["command"].startswith(f"python -m benchmarks.{name} --narrow")
    assert str(tmp_path) not in json.dumps(found)
    assert found["rows"]
    table = run("table")[1]
    for row in found["rows"]:
        assert len(row["before"]["values"]) == len(row["here"])
        assert 0 < row["factor"]["low"] <= row["factor"]["median"] <= row["factor"]["high"]
        assert row["what"] in table
    assert ("not measured" in table) == (name != "gpu")
    if name == "gpu":
        levers = found["setting"]["levers"]
        assert len(levers) == 3
        for lever in levers.values():
            assert lever["epoch"] == pytest.approx(9 * lever["step"], abs=0.01)
            assert 0 < lever["waiting"] < 1
        assert "conv" in (tmp_path / "profile-params-yaml.txt").read_text()


@pytest.mark.slow
def test_a_process_of_its_own_gives_its_result_or_its_error():
    from benchmarks.setup import alone

    assert alone(divmod, 7, 2) == (3, 1)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        alone(divmod, 7, 0)


def test_the_shape_is_distilhuberts():
    from benchmarks.setup import shape

    ours = shape(narrow=False).to_dict()
    same = set(DISTILHUBERT_CONFIG) - {"architectures"}
    assert {key: ours[key] for key in same} == {key: DISTILHUBERT_CONFIG[key] for key in same}


def test_without_a_gpu_the_gpu_benchmark_says_what_to_type(run, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match="2"):
        run("gpu")
    assert "python -m benchmarks.cpu" in capsys.readouterr().err
