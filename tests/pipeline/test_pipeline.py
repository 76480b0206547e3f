"""`dvc repro` for real: what runs, what does not run again, and what an error leaves behind."""

from __future__ import annotations

import json
import re
import resource
import shutil

import pytest
import yaml

from tests.support import pipeline_repo
from tests.support.pipeline_repo import STAGES, WORKERS, Clone, ran
from tests.support.torture_place import tree_sha256


@pytest.fixture(scope="module")
def spare(repo, tmp_path_factory) -> Clone:
    """A copy of `repo` in which each test leaves params.yaml and the results as they were."""
    return repo.copy(tmp_path_factory.mktemp("spare") / "repo")


@pytest.mark.slow
def test_everything_runs_once_and_then_nothing_does(repo):
    assert ran((repo.path.parent / "log").read_text()) == STAGES
    spent = cpu_seconds()
    again = repo.dvc("repro")
    assert cpu_seconds() - spent < 10  # 3 s on an idle core
    assert ran(again) == []
    assert "up to date" in again
    assert repo.git("status", "--porcelain") == ""


AFFECTED = {
    "train.epochs=1": ["train", "export"],
    "train.weight_decay=0.1": ["train", "export"],
    "split.fold=1": ["prepare"],
    "split.validation=0.2": ["prepare"],
    "encode.segment_seconds=0.5": ["encode", "export"],
    "encode.normalize=false": ["encode", "export"],
    "export.int8=false": ["export"],
    "evaluate.mistakes=3": ["evaluate", "export"],
    "evaluate.confidence=0.9": ["evaluate", "export"],
    "model.revision=main": ["fetch_model"],
    "data.name_pattern='(?P<group>.*)'": ["fetch_data"],
    "seed=1": ["prepare", "train", "export"],
}


@pytest.mark.parametrize("change", AFFECTED)
def test_a_parameter_affects_the_stages_that_read_it(spare, change):
    before = (spare.path / "params.yaml").read_text()
    key, value = change.split("=", 1)
    spare.set(**{key: yaml.safe_load(value)})
    assert spare.changed() == AFFECTED[change]
    (spare.path / "params.yaml").write_text(before)


CHANGED_BY = {
    "genrepro/core/errors.py": [],
    "genrepro/core/stage.py": [],
    "stages/__main__.py": [],
    "genrepro/corpus/gather.py": ["fetch_data"],
    "genrepro/hub/client.py": ["fetch_data", "fetch_model"],
    "genrepro/pretrained.py": ["fetch_model"],
    "genrepro/audio.py": ["fetch_data", "encode"],
    "genrepro/decoders.py": ["fetch_data", "encode"],
    "genrepro/splits/audit.py": ["prepare"],
    "genrepro/encoding/store.py": ["encode", "train", "evaluate", "export"],
    "genrepro/model/backbone.py": ["train", "evaluate", "export"],
    "genrepro/training/fine_tune.py": ["train"],
    "genrepro/evaluation/scoring.py": ["evaluate"],
    "genrepro/export/onnx.py": ["export"],
    "stages/train.py": ["train"],
    "tools/results.py": [],
    "docs/scaling.md": [],
    "README.md": [],
}


@pytest.mark.parametrize("file", CHANGED_BY)
def test_a_changed_line_reruns_the_stages_of_its_room(spare, file):
    """Those that change by themselves; test_dag.py has the stages that follow."""
    path = spare.path / file
    before = path.read_bytes()
    path.write_bytes(before + b"# another line\n")
    assert spare.changed() == CHANGED_BY[file]
    path.write_bytes(before)


@pytest.mark.slow
def test_a_change_reruns_what_it_affects_and_no_more(repo, tmp_path):
    changed = repo.copy(tmp_path / "repo")
    changed.set(split__fold=1)
    assert ran(changed.dvc("repro", "prepare", "encode")) == ["prepare"]
    assert ran(changed.dvc("repro", "prepare", "encode")) == []


@pytest.mark.slow
def test_train_and_evaluate_report_the_same_figures_for_the_same_clips(repo, tmp_path):
    """evaluate, given the validation clips as test clips, finds train's validation figures."""
    swapped = repo.copy(tmp_path / "repo")
    split = swapped.path / "data/split.csv"
    names = {"test": "validation", "validation": "test", "train": "train"}
    header, *rows = (line.split(",") for line in split.read_text().splitlines())
    assert header[-1] == "split"
    lines = [header] + [[*row[:-1], names[row[-1]]] for row in rows]
    split.write_text("".join(",".join(line) + "\n" for line in lines))
    swapped.run("python", "-m", "stages", "evaluate")
    trained, evaluated = (
        json.loads((swapped.path / f"metrics/{name}.json").read_text())
        for name in ("validation", "test")
    )
    assert evaluated["clips"] == trained["clips"]
    assert evaluated["accuracy"] == pytest.approx(trained["accuracy"], abs=1e-5)
    assert evaluated["loss"] == pytest.approx(trained["loss"], abs=1e-4)


@pytest.mark.slow
def test_a_refused_parameter_deletes_nothing_and_says_how_to_restore_it(repo, tmp_path):
    clone = repo.copy(tmp_path / "repo")
    clone.env = WORKERS | {"PYTHONPROFILEIMPORTTIME": "1"}
    before = contents(clone)
    spent = cpu_seconds()
    refused = clone.run("dvc", "exp", "run", "-S", "train.batch_size=3", ok=False)
    assert cpu_seconds() - spent < 20  # 4 s on an idle core, most of them DVC's own
    assert refused.returncode != 0
    imported = set(re.findall(r"\|\s+([\w.]+)$", refused.stderr, re.MULTILINE))
    assert "genrepro.core.params" in imported and not imported & {"torch", "numpy", "transformers"}
    assert "train: effective_batch_size (8) must be a multiple of batch_size (3)" in refused.stderr
    assert "git restore params.yaml" in refused.stderr and "Traceback" not in refused.stderr
    assert contents(clone) == before
    assert clone.git("status", "--porcelain") == " M params.yaml\n"
    clone.git("restore", "params.yaml")
    assert clone.changed() == []


def contents(clone: Clone) -> dict[str, str]:
    folders = ("models/finetuned", "metrics", "data/encoded", "export")
    return {name: tree_sha256(clone.path / name) for name in folders}


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Clone:
    """A clone in which nothing has run yet."""
    return pipeline_repo.clone(tmp_path_factory.mktemp("fresh") / "repo")


def remove_labels(clone: Clone, *labels: str) -> None:
    for label in labels:
        shutil.rmtree(clone.path / pipeline_repo.CORPUS / label)


def leave_two(clone: Clone) -> None:
    for file in sorted((clone.path / pipeline_repo.CORPUS / "low").iterdir())[2:]:
        file.unlink()


MISTAKES = {
    "an empty corpus": (
        lambda c: remove_labels(c, "low", "middle", "high"),
        "no usable clip",
    ),
    "one label": (lambda c: remove_labels(c, "low", "high"), "a single label, 'middle'"),
    "too few clips": (leave_two, "label 'low'; the label has 2 clip(s)"),
    "an unknown key": (lambda c: c.set(**{"train.epoch": 3}), "(did you mean epochs?)"),
    "an impossible value": (lambda c: c.set(**{"split.fold": 9}), "fold must be below folds"),
    "no such corpus": (lambda c: c.set(**{"data.corpus": "nowhere"}), "nowhere"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_error_and_leaves_nothing_half_written(fresh, tmp_path, mistake):
    make, words = MISTAKES[mistake]
    clone = fresh.copy(tmp_path / "repo")
    make(clone)
    failed = clone.run("python", "-m", "stages", "fetch_data", ok=mistake == "too few clips")
    if mistake == "too few clips":
        failed = clone.run("python", "-m", "stages", "prepare", ok=False)
    assert failed.returncode == 1 and words in failed.stderr
    assert failed.stderr.count("error: ") == 1 and "Traceback" not in failed.stderr
    left = {path.name for path in (clone.path / "data").glob("*")}
    whole = {"raw", "clips.csv", "fingerprints.parquet"}
    assert left == (whole if mistake == "too few clips" else set())


@pytest.mark.slow
def test_another_folder_another_clock_and_one_process_give_the_same_bytes(repo, fresh, tmp_path):
    other = fresh.copy(tmp_path / "deeper" / "elsewhere")
    other.env = {"GENREPRO_WORKERS": "1", "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"}
    other.dvc("repro")
    assert outputs(other) == outputs(repo)


def outputs(clone: Clone) -> dict[str, str]:
    lock = (clone.path / "dvc.lock").read_text()
    assert set(yaml.safe_load(lock)["stages"]) == set(STAGES)
    return pipeline_repo.hashes(lock)
