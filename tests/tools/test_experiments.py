"""tools.experiments: a table that fits on the screen, whatever DVC has collected."""

from types import SimpleNamespace as Some

import pytest

from genrepro.core.files import write_json
from tools import experiments


def run(accuracy: float | None = None, **params: object) -> Some:
    """What DVC collects of a run: parameters and metrics by file."""
    metrics = {}
    if accuracy is not None:
        test = {"accuracy": accuracy, "accuracy_interval": {"low": accuracy - 0.1, "high": 1.0}}
        metrics = {"metrics/test.json": {"data": test}, "metrics/validation.json": {"error": "?"}}
    content = {"seed": 1, "train": {"epochs": 10, **params}}
    return Some(params={"params.yaml": {"data": content}}, metrics=metrics)


def experiment(name: str, data: Some, state: str | None = None) -> Some:
    rev = Some(name=name, rev="b" * 40, data=data)
    return Some(revs=[rev], executor=Some(state=state) if state else None)


@pytest.fixture
def listed(in_tmp) -> list[list[str]]:
    write_json(in_tmp / "metrics/speed/more/train.json", {"seconds": 61.4})
    write_json(in_tmp / "metrics/speed/more/export.json", {"seconds": 9.0})
    tried = [
        experiment("more", run(0.9, epochs=20)),
        experiment("later", run(epochs=30), "queued"),
        experiment("broken", run(batch_size=4), "failed"),
    ]
    head = Some(rev="a" * 40, name="main", data=run(0.8), experiments=tried)
    older = Some(rev="c" * 40, name=None, data=run(0.7, epochs=5), experiments=None)
    return list(experiments.rows(Some(data=run(0.9, epochs=20)), [head, older]))


def test_a_row_says_what_differs_from_its_commit_and_what_it_got(listed):
    assert listed == [
        ["main (aaaaaaa)", "", "", "0.800", "0.700 to 1.000", ""],
        ["  workspace", "train.epochs=20", "", "0.900", "0.800 to 1.000", ""],
        ["  more", "train.epochs=20", "", "0.900", "0.800 to 1.000", "70"],
        ["  later", "train.epochs=30", "queued", "", "", ""],
        ["  broken", "train.batch_size=4", "failed", "", "", ""],
        ["ccccccc", "", "", "0.700", "0.600 to 1.000", ""],
    ]


def test_a_workspace_as_committed_has_no_row_and_a_run_that_cannot_be_read_has_no_figures():
    head = Some(rev="a" * 40, name="main", data=run(0.8), experiments=[experiment("odd", None)])
    names = [row[0] for row in experiments.rows(Some(data=run(0.8)), [head])]
    assert names == ["main (aaaaaaa)", "  odd"]
    assert experiments.figures(None) == ["", "", ""]


@pytest.mark.parametrize("length", [1, 30, 400])
def test_the_table_has_at_most_120_columns_and_loses_nothing(listed, length):
    values = [f"train.parameter_{i}={i}" for i in range(length // 10)] + ["model.id=" + "x" * 200]
    row = ["  " + "long-name-" * 5, " ".join(values), "0.9", "0.8", "0.700 to 0.900", "123456"]
    lines = experiments.table([*listed, row]).splitlines()
    assert max(map(len, lines)) <= experiments.WIDTH
    assert all(value in "".join(lines) for value in values[:-1])
    assert "".join(lines).count("x") >= 200
    assert lines[0].split()[-4:] == experiments.HEAD[2:]
