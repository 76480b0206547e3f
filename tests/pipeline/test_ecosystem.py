"""What DVC's users expect to work: a shared remote, a queue of experiments, a registry."""

from __future__ import annotations

import json
import shutil
import time

import pytest
import yaml

from tests.support import pipeline_repo
from tests.support.pipeline_repo import STAGES, Clone, ran
from tests.support.samples import ROOT

pytestmark = pytest.mark.slow
RATES = ["0.001", "0.0003", "0.00001"]  # one more than there are workers


@pytest.fixture(scope="module")
def mine(repo, tmp_path_factory) -> Clone:
    """A clone whose results are in a remote too; its last commit adds that remote."""
    place = tmp_path_factory.mktemp("mine")
    clone = repo.copy(place / "repo")
    clone.dvc("remote", "add", "--default", "shared", str(place / "remote"))
    clone.dvc("push")
    clone.commit("A remote")
    return clone


def test_a_colleague_pulls_and_has_nothing_to_run(mine, tmp_path):
    mine.git("clone", "--quiet", str(mine.path), str(tmp_path / "theirs"))
    theirs = Clone(tmp_path / "theirs")
    assert not (theirs.path / "export").exists()
    theirs.dvc("pull")
    assert ran(theirs.dvc("repro")) == []
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (theirs.path / "export" / name).read_bytes() == (
            mine.path / "export" / name
        ).read_bytes()
    assert theirs.git("status", "--porcelain") == ""


def test_two_workers_run_a_queue_of_three_and_the_summary_shows_it(repo, tmp_path):
    clone = repo.copy(tmp_path / "repo")
    choices = f"train.scratch_learning_rate={','.join(RATES)}"
    clone.dvc("exp", "run", "--queue", "-S", choices, "-S", "train.epochs=1", "evaluate")
    clone.dvc("queue", "start", "-j", "2")
    wait_for_experiments(clone, len(RATES))
    summary = clone.run("python", "-m", "tools.summary", "--format", "json")
    recipes = json.loads(summary.stdout)
    assert len(recipes) == len(RATES)
    best = recipes[0]
    assert best["accuracy"] == max(recipe["accuracy"] for recipe in recipes)
    assert best["accuracy_interval"]["low"] <= best["accuracy"]
    assert best["recipe"].keys() == {"train.scratch_learning_rate"}
    assert clone.git("status", "--porcelain") == ""  # the working copy is left alone


def wait_for_experiments(clone: Clone, count: int) -> None:
    """Return when so many are stored in Git. `dvc queue status` may say Running for ever: DVC's
    workers stop when the queue is empty, also while one of them has just taken the last task.
    """
    deadline = time.monotonic() + 500
    while len(clone.git("for-each-ref", "refs/exps/*/*/*").splitlines()) < count:
        assert time.monotonic() < deadline, clone.dvc("queue", "status")
        time.sleep(1)


def test_a_corpus_outside_the_repository_needs_its_absolute_path_in_exp_temp(tmp_path):
    """--temp and --queue run in another folder, where a path like ../corpus means another place."""
    outside = tmp_path / "outside"
    clone = pipeline_repo.clone(tmp_path / "repo")
    shutil.move(clone.path / pipeline_repo.CORPUS, outside)
    clone.set(**{"data.corpus": "../outside"})
    clone.commit("The corpus is elsewhere")
    target = ("exp", "run", "--temp", "-S")
    assert "outside" in clone.dvc(*target, "data.corpus=../outside", "prepare", ok=False)
    said = clone.dvc(*target, f"data.corpus={outside}", "prepare")
    assert ran(said) == ["fetch_data", "prepare"]


def test_a_tag_in_the_registry_fetches_only_the_model(mine, tmp_path):
    mine.git("tag", "--annotate", "music-genres@v1.0.0", "--message", "The first")
    words = ("artifacts", "get", str(mine.path), "music-genres", "--rev", "v1.0.0")
    Clone(tmp_path).dvc(*words, "-o", "model")
    files = sorted((mine.path / "export").iterdir())
    assert [path.name for path in sorted((tmp_path / "model").iterdir())] == [
        file.name for file in files
    ]
    for file in files:
        assert (tmp_path / "model" / file.name).read_bytes() == file.read_bytes()
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    outs = {path for out in pipeline["stages"][STAGES[-1]]["outs"] for path in out}
    assert pipeline["artifacts"]["music-genres"]["path"] in outs
