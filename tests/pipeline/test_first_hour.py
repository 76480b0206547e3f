"""The README's first hour, typed as it stands there: each command works after the one before."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.support.pipeline_repo import Clone, ran


def python(clone: Clone, *words: str) -> str:
    return clone.run("python", "-m", *words).stdout


@pytest.mark.slow
def test_change_a_parameter_compare_go_back_and_take_an_experiment_over(repo, tmp_path):
    clone = repo.copy(tmp_path / "repo")
    clone.git("reset", "--quiet", "--soft", "HEAD~1")  # as after the first `make repro`
    clone.git("reset", "--quiet")
    said = python(clone, "tools.baseline")
    assert "type `git commit -am Baseline`" in said and said.count("\n") == 1
    clone.commit("Baseline")
    said = python(clone, "tools.baseline")
    assert said.startswith("Results are those of the last commit: test accuracy ")

    # change a parameter
    printed = clone.dvc("exp", "run", "-n", "short", "-S", "train.epochs=1")
    assert ran(printed) == ["train", "evaluate", "export"]

    # compare
    diff = json.loads(clone.run("dvc", "metrics", "diff", "--all", "--json").stdout)
    assert diff.get("diff", diff)["metrics/test.json"]["accuracy"].keys() >= {"old", "new"}
    compared = python(clone, "tools.compare", "main", "workspace", "--json")
    figures = json.loads((clone.path / "metrics/test.json").read_text())
    assert json.loads(compared)["accuracy_b"] == pytest.approx(figures["accuracy"])
    assert json.loads(compared)["clips_in_one_only"] == 0

    # look at the experiments
    table = python(clone, "tools.experiments").splitlines()
    assert max(map(len, table)) <= 120
    short = next(line for line in table if line.startswith("  short "))
    assert "train.epochs=1" in short and f"{figures['accuracy']:.3f}" in short
    assert int(short.split()[-1]) >= 1  # seconds

    # go back: nothing has to run
    clone.git("restore", "params.yaml", "dvc.lock", "metrics", "data")
    clone.dvc("checkout")
    assert ran(clone.dvc("repro")) == [] and clone.git("status", "--porcelain") == ""

    # recipes start from the commit
    python(clone, "tools.recipe", "small-gpu")
    python(clone, "tools.recipe", "cross-validation")
    params = yaml.safe_load((clone.path / "params.yaml").read_text())
    assert (params["split"]["folds"], params["train"]["batch_size"]) == (5, 8)
    clone.git("restore", "params.yaml")

    # take one over
    clone.dvc("exp", "apply", "short")
    clone.commit("One epoch")
    assert clone.changed() == []  # what `dvc repro` would run
    assert "  short " in python(clone, "tools.experiments")
    assert not any(name in clone.git("ls-files") for name in ("metrics/speed", "models/"))
