"""Comparing and pooling runs: statistics on made-up predictions, commands on real experiments."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from genrepro.core.errors import PipelineError
from tools import runs, summary
from tools.compare import compare, sentence
from tools.summary import pool

ROOT = Path(__file__).parents[2]


def frame(right, clips=None, group: str = "") -> pd.DataFrame:
    """Predictions of label "x" or "y" that are right where `right` is true."""
    right = np.asarray(right, dtype=bool)
    clips = [f"c{i:04d}" for i in range(len(right))] if clips is None else clips
    label = np.array(["x", "y"])[np.arange(len(right)) % 2]
    predicted = np.where(right, label, np.where(label == "x", "y", "x"))
    p = np.where(predicted == "x", 0.8, 0.2)
    return pd.DataFrame(
        {"clip": clips, "label": label, "group": group, "predicted": predicted,
         "p_x": p, "p_y": 1 - p}
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 120), st.integers(0, 2**32 - 1))
def test_one_run_per_side_gives_mcnemars_exact_test(clips, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random(clips) < 0.6, rng.random(clips) < 0.75
    result = compare([frame(a)], [frame(b)])
    only_a, only_b = (a & ~b).sum(), (~a & b).sum()
    mcnemar = min(1, 2 * binom.cdf(min(only_a, only_b), only_a + only_b, 0.5))
    assert result["p"] == pytest.approx(mcnemar, abs=1e-6)
    assert result["difference"] == pytest.approx(b.mean() - a.mean(), abs=1e-6)
    assert result["interval"]["low"] <= result["difference"] <= result["interval"]["high"]
    assert result["interval"]["low"] < result["interval"]["high"]
    mirrored = compare([frame(b)], [frame(a)])
    assert mirrored["difference"] == -result["difference"]
    assert mirrored["p"] == result["p"]


def test_a_clear_difference_in_one_sentence():
    a = np.arange(499) % 10 < 7
    b = a | (np.arange(499) % 20 == 8)
    result = compare([frame(a)], [frame(b)])
    assert result["better"] == "b"
    assert sentence(result, "A", "B").startswith(
        "B is better than A by 5.0 points, 95% interval 3."
    )
    assert "on 499 clips (p = " in sentence(result, "A", "B")
    backwards = sentence(compare([frame(b)], [frame(a)]), "A", "B")
    assert backwards.startswith("A is better than B by 5.0 points, 95% interval 3.")


def test_a_small_difference_may_be_chance():
    a = np.arange(100) < 80
    b = np.roll(a, 3)
    result = compare([frame(a)], [frame(b)])
    assert result["better"] is None
    assert sentence(result, "A", "B").startswith(
        "The difference between B and A may be chance: +0.0 points"
    )
    same = compare([frame(a)], [frame(a)])
    assert (same["p"], same["difference"], same["better"]) == (1.0, 0.0, None)


def test_groups_widen_the_interval():
    rng = np.random.default_rng(0)
    a = np.repeat(rng.random(20) < 0.5, 20)
    b = np.repeat(rng.random(20) < 0.7, 20)
    groups = [f"g{i // 20}" for i in range(400)]
    alone = compare([frame(a)], [frame(b)])["interval"]
    grouped = compare([frame(a, group=groups)], [frame(b, group=groups)])
    together = grouped["interval"]
    assert grouped["units"] == 20
    assert together["high"] - together["low"] > 3 * (alone["high"] - alone["low"])


@pytest.mark.parametrize("groups", [2, 9])
def test_few_groups_are_never_called_better(groups):
    """All clips of two groups in favour of B gave "better, interval 20.0 to 20.0"."""
    a = np.arange(20 * groups) % 5 > 0
    named = [f"g{i // 20}" for i in range(20 * groups)]
    result = compare([frame(a, group=named)], [frame(np.full(len(a), True), group=named)])
    assert result["better"] is None
    assert result["interval"]["high"] - result["interval"]["low"] > 0.05
    assert sentence(result, "A", "B") == (
        f"Nothing can be said about B and A: +20.0 points on {20 * groups} clips of {groups} "
        "groups, but at least 10 groups are needed."
    )


def test_enough_groups_can_be_better():
    rng = np.random.default_rng(0)
    a, named = rng.random(400) < 0.6, [f"g{i // 20}" for i in range(400)]
    result = compare([frame(a, group=named)], [frame(a | (rng.random(400) < 0.5), group=named)])
    assert result["better"] == "b"
    assert "on 400 clips of 20 groups (p = " in sentence(result, "A", "B")


def test_the_test_takes_a_groups_clips_together():
    """B is better on all 12 clips of one group: no evidence, however many clips there are."""
    named = ["one"] * 12 + [f"g{i}" for i in range(60)]
    a = np.r_[np.zeros(12, bool), np.ones(60, bool)]
    result = compare([frame(a, group=named)], [frame(np.ones(72, bool), group=named)])
    assert (result["p"], result["better"]) == (1.0, None)


def test_folds_are_joined_and_seeds_averaged():
    rng = np.random.default_rng(0)
    right = rng.random(90) < 0.7
    clips = np.array([f"c{i}" for i in range(90)])
    folds = [frame(right[i::3], clips[i::3]) for i in range(3)]
    whole = compare(folds, folds[::-1])
    assert (whole["clips"], whole["runs_a"], whole["difference"]) == (90, 3, 0)
    seeds = [frame(rng.random(90) < 0.7, clips) for _ in range(4)]
    result = compare(seeds[:2], seeds[2:])
    means = [np.mean([(s["label"] == s["predicted"]).mean() for s in side])
             for side in (seeds[:2], seeds[2:])]  # fmt: skip
    assert result["difference"] == pytest.approx(means[1] - means[0], abs=1e-6)
    assert result["clips"] == result["units"] == 90


def test_runs_that_cannot_be_paired_are_reported():
    a = frame([True, False])
    with pytest.raises(PipelineError, match="no test clip in common"):
        compare([a], [frame([True, True], clips=["d", "e"])])
    with pytest.raises(PipelineError, match="different corpora"):
        compare([a], [a.assign(label="y")])
    partly = compare([a], [frame([True, False, True])])
    assert (partly["clips"], partly["clips_in_one_only"]) == (2, 1)


def test_more_seeds_are_not_more_clips():
    """Ten seeds that agree say no more about new clips than one does."""
    right = np.arange(100) < 70
    one, ten = pool([frame(right)]), pool([frame(right)] * 10)
    assert one["accuracy_interval"] == ten["accuracy_interval"]
    assert (ten["runs"], ten["clips"], ten["units"]) == (10, 100, 100)
    assert ten["wilson_interval"] is None and one["wilson_interval"]["low"] == pytest.approx(
        0.604, abs=1e-3
    )
    assert ten["standard_deviation"] == 0 and one["standard_deviation"] is None


def test_folds_are_pooled():
    right = np.arange(100) % 4 > 0
    clips = np.array([f"c{i}" for i in range(100)])
    folds = [frame(right[i::5], clips[i::5]) for i in range(5)]
    result = pool(folds)
    assert (result["runs"], result["clips"], result["accuracy"]) == (5, 100, 0.75)
    assert result["mean"] == 0.75
    assert result["lowest"] <= 0.75 <= result["highest"]
    assert len(result["accuracies"]) == 5


STAGE = """
import csv, pathlib, yaml
params = yaml.safe_load(open("params.yaml"))
rows = [["clip", "label", "group", "predicted", "p_x", "p_y"]]
for i in range(params["split"]["fold"], 200, 2):
    label = "xy"[i // 2 % 2]
    right = (i * 7919 + params["seed"]) % 100 < params["share"]
    guess = label if right else "xy"[label == "x"]
    p = 0.9 if guess == "x" else 0.1
    rows.append([f"c{i:03d}", label, "", guess, p, 1 - p])
pathlib.Path("data").mkdir(exist_ok=True)
csv.writer(open("data/predictions.csv", "w")).writerows(rows)
"""
PARAMS = "seed: 1\nshare: 60\nsplit:\n  fold: 0\n"
DVC = (
    "stages:\n  evaluate:\n    cmd: python stage.py\n    deps: [stage.py]\n"
    "    params: [seed, share, split]\n    outs: [data/predictions.csv]\n"
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A DVC repository whose only stage makes up predictions: 2 recipes with 2 folds each."""
    folder = tmp_path_factory.mktemp("repository")
    for name, text in (("stage.py", STAGE), ("params.yaml", PARAMS), ("dvc.yaml", DVC)):
        (folder / name).write_text(text)

    def call(*command: str) -> None:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)

    dvc = (sys.executable, "-m", "dvc")
    call("git", "init", "-q")
    call("git", "config", "user.email", "test@example.org")
    call("git", "config", "user.name", "test")
    call(*dvc, "init", "--quiet")
    call("git", "add", "-A")
    call("git", "commit", "-qm", "start")
    for share in (60, 80):
        for fold in (0, 1):
            name = f"share{share}-fold{fold}"
            changes = ("-S", f"share={share}", "-S", f"split.fold={fold}")
            call(*dvc, "exp", "run", "-q", "-n", name, *changes)
    return folder


def tool(folder: Path, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        (sys.executable, "-m", *command),
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_experiments_are_compared(repository):
    families = ("share60-fold0,share60-fold1", "share80-fold0,share80-fold1")
    done = tool(repository, "tools.compare", *families, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["clips"], result["better"]) == (200, "b")
    assert result["difference"] == pytest.approx(0.2, abs=0.02)
    done = tool(repository, "tools.compare", "share80-fold1", "workspace")
    assert "may be chance: +0.0 points" in done.stdout


@pytest.mark.slow
def test_a_run_that_does_not_exist_is_reported(repository):
    done = tool(repository, "tools.compare", "share60-fold0", "nothing")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no experiment, branch or commit nothing:")
    assert "Traceback" not in done.stderr


def test_no_run_and_no_table_are_reported(in_tmp):
    with pytest.raises(PipelineError, match="names no run"):
        runs.family(" ,")
    with pytest.raises(PipelineError, match="type `dvc repro evaluate`"):
        runs.family("workspace")
    Path("data").mkdir()
    Path("data/predictions.csv").write_text("")
    with pytest.raises(PipelineError, match=r"predictions.csv of workspace"):
        runs.family("workspace")


@pytest.mark.slow
def test_experiments_are_pooled_by_recipe(repository):
    done = tool(repository, "tools.summary", "--format", "json")
    assert done.returncode == 0, done.stderr
    better, worse = json.loads(done.stdout)
    assert (better["recipe"], worse["recipe"]) == ({"share": 80}, {"share": 60})
    assert better["names"] == ["share80-fold0", "share80-fold1"]
    assert (better["runs"], better["clips"]) == (2, 200)
    assert better["accuracy"] == pytest.approx(0.8, abs=0.02)
    text = summary.table([better, worse], "text")
    assert text.splitlines()[0].startswith("recipe")
    markdown = summary.table([better, worse], "markdown").splitlines()
    assert markdown[0].startswith("| recipe ") and set(markdown[1]) <= set("| -")
    assert markdown[2].startswith("| share=80 | 2    | 200   | 8")
