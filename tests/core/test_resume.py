"""Unfinished work is found again under the same dependencies and parameters, and no others."""

import os
import shutil

import pytest

from genrepro.core import params, paths, resume
from tests.support.samples import ROOT

PIPELINE = """
stages:
  train:
    cmd: python -m stages train
    deps: [code.py, room, data, '${data.corpus}']
    params: [seed, train]
"""


@pytest.fixture
def find(in_tmp):
    """find(resolved, section=values): the folder for params.yaml with those values."""
    shutil.copy(ROOT / "params.yaml", ".")
    paths.PIPELINE.write_text(PIPELINE)
    for name in ("code.py", "room/a.py", "data/shard", "corpora/demo/corpus.yaml"):
        (in_tmp / name).parent.mkdir(parents=True, exist_ok=True)
        (in_tmp / name).write_text("one")
    given = params.load()

    def folder(resolved=None, **changed):
        updated = {
            name: getattr(given, name).model_copy(update=values) for name, values in changed.items()
        }
        return resume.folder("train", given.model_copy(update=updated), resolved or {})

    return folder


def test_the_same_inputs_find_the_same_folder(find, in_tmp):
    first = find()
    (first / "checkpoint").touch()
    (in_tmp / "room/__pycache__").mkdir()
    (in_tmp / "room/__pycache__/a.pyc").touch()  # bytecode is no change of the code
    os.utime(in_tmp / "room/a.py")
    assert find(evaluate={"batch_size": 1}) == first  # a parameter of another stage
    assert (first / "checkpoint").exists()


CHANGES = {
    "a line of code": lambda root: (root / "code.py").write_text("two"),
    "a line of a room": lambda root: (root / "room/a.py").write_text("two"),
    "a new module": lambda root: (root / "room/b.py").touch(),
    "a data file": lambda root: (root / "data/shard").write_text("longer"),
    "a rewritten data file": lambda root: os.utime(root / "data/shard", (1, 1)),
    "a file of a dependency that a parameter names": lambda root: (
        root / "corpora/demo/corpus.yaml"
    ).write_text("longer"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_dependency_starts_anew_and_removes_what_was_there(find, in_tmp, change):
    first = find()
    (first / "checkpoint").touch()
    CHANGES[change](in_tmp)
    assert find() != first and not first.exists()


def test_other_parameters_packages_and_devices_start_anew(find, monkeypatch):
    keys = {find(), find({"device": "cuda"}), find(train={"epochs": 3})}
    monkeypatch.setattr(resume, "distributions", lambda: [])
    assert len({*keys, find()}) == 4


def test_rank_0_alone_removes_other_folders(find, monkeypatch):
    first = find()
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert find({"device": "another machine's"}) != first and first.exists()


def test_work_that_was_being_removed_is_not_found(find):
    first = find()
    first.with_suffix(".gone").mkdir()  # killed while it was removed
    assert find() == first and [path.name for path in first.parent.iterdir()] == [first.name]
