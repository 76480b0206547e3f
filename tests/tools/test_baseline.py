"""tools.baseline: what `make repro` says about results that are not those of the last commit."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tools import baseline

LOCK = {
    "stages": {
        "prepare": {
            "deps": [{"path": "genrepro/splits", "md5": "a"}],
            "params": {"params.yaml": {"seed": 1, "split": {"fold": 0}}},
            "outs": [{"path": "data/split.csv", "md5": "b"}],
        },
        "train": {
            "deps": [{"path": "data/split.csv", "md5": "b"}, {"path": "stages/train.py"}],
            "params": {"params.yaml": {"train": {"epochs": 2}}},
            "outs": [{"path": "models/finetuned", "md5": "c"}],
        },
    }
}


@pytest.fixture
def committed(in_tmp, monkeypatch) -> Path:
    monkeypatch.setattr("sys.argv", ["baseline"])
    Path("metrics").mkdir()
    interval = {"low": 0.4, "high": 0.6}
    test = {"accuracy": 0.5, "accuracy_interval": interval, "clips": 60}
    Path("metrics/test.json").write_text(json.dumps(test))
    Path("dvc.lock").write_text(yaml.safe_dump(LOCK))
    author = ("-c", "user.name=A. Tester", "-c", "user.email=tester@example.org")
    for words in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "start"]):
        subprocess.run(["git", *words], check=True)
    return in_tmp


def test_results_as_committed_are_said_to_be_so(committed, capsys):
    baseline.main()
    assert capsys.readouterr().out == (
        "Results are those of the last commit: test accuracy 0.500, interval 0.400 to 0.600, "
        "on 60 clips.\n"
    )


def test_what_a_tool_measured_is_no_result_of_the_pipeline(committed, capsys):
    Path("metrics/robustness.json").write_text("{}")
    baseline.main()
    assert capsys.readouterr().out.startswith("Results are those of the last commit")


def test_nothing_is_said_outside_git(committed, monkeypatch, capsys):
    monkeypatch.setenv("GIT_DIR", "nowhere")
    Path("dvc.lock").write_text("")
    baseline.main()
    assert capsys.readouterr().out == ""


def test_another_processor_is_one_line_with_what_to_type(committed, capsys):
    lock = json.loads(json.dumps(LOCK))
    lock["stages"]["train"]["outs"][0]["md5"] = "d"
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    Path("metrics/test.json").write_text('{"accuracy": 0.5, "loss": 1.0001}')
    baseline.main()
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert printed.startswith("2 file(s) of results are not those of the last commit")
    assert "(test accuracy 0.500, as committed): parameters, code and data are the same" in printed
    assert "`git commit -am Baseline`" in printed


def test_a_parameter_and_code_that_changed_are_named(committed, capsys):
    lock = json.loads(json.dumps(LOCK))
    lock["stages"]["prepare"]["params"]["params.yaml"]["split"]["fold"] = 1
    lock["stages"]["prepare"]["deps"][0]["md5"] = "e"
    lock["stages"]["prepare"]["outs"][0]["md5"] = "f"  # which follows, and is no cause
    lock["stages"]["train"]["deps"][0]["md5"] = "f"
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    Path("metrics/test.json").write_text('{"accuracy": 0.75}')
    baseline.main()
    assert "0.500 → 0.750): you changed genrepro/splits, split.fold." in capsys.readouterr().out


def test_many_causes_are_counted():
    text = baseline.sentence(1, ["a", "b", "c", "d", "e"], None, 0.5)
    assert "none → 0.500" in text and "you changed a, b, c and 2 more." in text
