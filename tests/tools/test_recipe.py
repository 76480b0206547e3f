"""tools.recipe: params.yaml becomes the committed values plus one recipe, and all else stays."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from tests.support.samples import ROOT
from tools import recipe
from tools.settings import differences, flat, shown

COMMITTED = (ROOT / "params.yaml").read_text()
AUTHOR = ("-c", "user.name=A. Tester", "-c", "user.email=tester@example.org")
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def commit(tmp_path_factory) -> Path:
    """A repository whose commit has this repository's params.yaml."""
    folder = tmp_path_factory.mktemp("commit")
    (folder / "params.yaml").write_text(COMMITTED)
    for words in (["init", "-q"], ["add", "params.yaml"], [*AUTHOR, "commit", "-qm", "start"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


@pytest.fixture
def repository(commit, in_tmp) -> Path:
    """A copy of it, with the recipes."""
    shutil.copytree(commit, in_tmp, dirs_exist_ok=True)
    (in_tmp / "recipes").symlink_to(ROOT / "recipes")
    return in_tmp


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_changes_its_values_and_keeps_every_comment(repository, path, capsys):
    recipe.use(path.stem)
    own = flat(yaml.safe_load(path.read_text()))
    params = Path("params.yaml")
    load(params)
    changed = differences(flat(yaml.safe_load(COMMITTED)), flat(yaml.safe_load(params.read_text())))
    assert {key: new for key, (_, new) in changed.items()} == own  # each value is another one
    lines = list(zip(COMMITTED.splitlines(), params.read_text().splitlines(), strict=True))
    assert sum(old != new for old, new in lines) == len(own)
    for old, new in lines:
        assert new.partition(" # ")[2] == old.partition(" # ")[2]
    printed = capsys.readouterr().out
    assert all(key in printed for key in own)
    assert "Next: dvc exp run" in printed and "git restore params.yaml" in printed


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_is_for_and_why_each_value(path):
    text = path.read_text()
    purpose, following = recipe.head(text)
    assert purpose.endswith(".") and following.startswith("Next: ") and len(text.splitlines()) <= 25
    for line in text.splitlines():
        if not line.startswith("#") and not line.endswith(":"):
            assert " # " in line, line


def test_the_recipe_of_the_course_has_its_values_whatever_the_default_run_is(repository):
    recipe.use("gtzan")
    params = load(Path("params.yaml"))
    train = params.train
    assert (params.model.id, params.data.corpus) == ("ntu-spml/distilhubert", "corpora/gtzan")
    assert (train.epochs, train.effective_batch_size, train.learning_rate) == (10, 8, 5e-5)
    assert (train.warmup, train.freeze, train.layers, train.probe) == (0.1, "nothing", None, False)
    assert (params.encode.max_seconds, params.encode.normalize, params.seed) == (30, True, 42)


def test_recipes_do_not_add_up_and_say_what_they_replace(repository, capsys):
    recipe.use("small-gpu")
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("seed: 42", "seed: 7"))
    capsys.readouterr()
    recipe.use("gtzan")
    assert (load(params).train.batch_size, load(params).seed) == (8, 42)
    replaced = capsys.readouterr().out.partition("not committed")[2]
    assert "seed                 7 → 42" in replaced and "train.batch_size     2 → 8" in replaced
    recipe.use("gtzan")
    assert "not committed" not in capsys.readouterr().out
    params.write_text("train: [")  # nothing to keep
    recipe.use("gtzan")
    assert load(params).data.corpus == "corpora/gtzan"


def test_a_recipe_starts_from_what_was_committed(repository, capsys):
    """A person's own corpus, once committed, stays when recipes come and go."""
    params = Path("params.yaml")
    params.write_text(COMMITTED.replace("corpora/demo", "/my/birds"))
    subprocess.run(["git", *AUTHOR, "commit", "-qam", "My birds"], check=True)
    recipe.use("probe")
    assert load(params).data.corpus == "/my/birds" and load(params).train.probe


def test_a_longer_value_and_one_without_a_comment():
    base = "a:\n  b: 1   # one\n  c: x\nd: null # none\n"
    assert recipe.apply("a: {b: 22, c: 'y z'}\nd: longer", base) == (
        "a:\n  b: 22  # one\n  c: 'y z'\nd: longer # none\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epoch: 3}", "params.yaml has no train.epoch"),
        ("train: {batch_size: 3}", "must be a multiple of batch_size"),
    ],
)
def test_a_recipe_that_cannot_be_right_changes_nothing(repository, text, message):
    Path("recipes").unlink()
    Path("recipes").mkdir()
    Path("recipes/mine.yaml").write_text(text)
    with pytest.raises(PipelineError, match=message):
        recipe.use("mine")
    assert Path("params.yaml").read_text() == COMMITTED


def test_an_unknown_recipe_and_a_folder_without_commits_are_reported(repository, monkeypatch):
    with pytest.raises(PipelineError, match="the recipes are cross-validation, distilhubert"):
        recipe.use("nothing")
    monkeypatch.setenv("GIT_DIR", "nowhere")
    with pytest.raises(PipelineError, match="not in the last commit"):
        recipe.use("gtzan")


def test_the_list_and_what_differs_now(repository, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["recipe", "--list"])
    recipe.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines if line[0] != " "] == [p.stem for p in RECIPES]
    assert max(map(len, lines)) <= 120
    monkeypatch.setattr("sys.argv", ["recipe"])
    recipe.main()
    assert "(no difference)" in capsys.readouterr().out
    recipe.use("small-gpu")
    capsys.readouterr()
    recipe.main()
    assert "train.batch_size     8 → 2" in capsys.readouterr().out


def test_values_are_compared_as_the_pipeline_reads_them():
    assert differences({"a": "1e-05", "b": 1, "c": None}, {"a": 1e-5, "b": 2, "d": True}) == {
        "b": (1, 2),
        "d": (None, True),
    }
    assert [shown(value) for value in (None, True, 5e-5, "x")] == ["null", "true", "5e-05", "x"]
