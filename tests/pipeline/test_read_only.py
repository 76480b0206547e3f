"""A read-only folder is one error that names it and loses nothing; fixed, the stage works."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from genrepro.core import errors, files
from tests.support.pipeline_repo import Clone
from tests.support.torture_place import Place


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only: by its permissions, or for root by a mount or a flag."""
    if os.geteuid() != 0:  # root may write whatever the permissions say
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
    elif done("mount", "--bind", folder, folder):
        try:
            assert done("mount", "-o", "remount,ro,bind", folder)
            yield
        finally:
            done("umount", folder)
    elif done("chattr", "+i", folder):
        try:
            yield
        finally:
            done("chattr", "-i", folder)
    else:
        pytest.skip("root may neither mount nor set flags here, and can write everywhere")


def done(*command: str | Path) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def repo(repo, tmp_path_factory) -> Clone:
    """A copy of the shared one."""
    return repo.copy(tmp_path_factory.mktemp("read-only") / "repo")


@pytest.mark.parametrize(
    ("stage", "folder", "place"),
    [
        ("fetch_data", ".resume", ".resume/fetch_data.lock"),
        ("fetch_data", "data", "data/.raw.part"),
        ("prepare", "metrics", "metrics/.split.json.part"),
        pytest.param("train", "models", "models/.finetuned.part", marks=pytest.mark.slow),
    ],
)
def test_a_read_only_folder_is_one_error_that_names_it(repo, stage, folder, place):
    here = Place(repo.path, through_dvc=False)
    whole = here.hashes(stage)
    (repo.path / folder).mkdir(exist_ok=True)
    with read_only(repo.path / folder):
        failed = repo.run("python", "-m", "stages", stage, ok=False)
    assert failed.returncode == 1 and here.hashes(stage) == whole
    assert failed.stderr.startswith(f"error: {place}: ") and failed.stderr.count("\n") == 1

    here.remove_outputs(stage)
    fixed = repo.run("python", "-m", "stages", stage)
    assert here.hashes(stage) == whole
    if stage == "train":  # the hours before its last write are not lost
        assert "from checkpoint-" in fixed.stdout


def test_a_folder_that_cannot_be_removed_is_named_itself(in_tmp):
    (in_tmp / "data/encoded").mkdir(parents=True)
    (in_tmp / "data/encoded/shard").touch()
    with read_only(in_tmp / "data/encoded"), pytest.raises(OSError) as caught:
        files.remove(Path("data/encoded"))
    assert errors.explain(caught.value).startswith("data/encoded: ")
