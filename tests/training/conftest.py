"""Runs of training that several files compare with."""

import re
import shutil

import pytest

from tests.support.tones import CHANGED, corpus, train


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return corpus("ast", tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def uninterrupted(made, tmp_path_factory):
    where = tmp_path_factory.mktemp("uninterrupted")
    return *train(made, where), where


@pytest.fixture(scope="session")
def changed(made, tmp_path_factory):
    where = tmp_path_factory.mktemp("changed")
    return *train(made, where, **CHANGED, batch_size=4), where


@pytest.fixture(scope="session")
def unequal(made, tmp_path_factory):
    """The same corpus with one training clip of "low" and eight of each other label."""
    folder, extractor = made
    other = tmp_path_factory.mktemp("unequal") / "corpus"
    shutil.copytree(folder, other)
    rows = (folder / "split.csv").read_text().splitlines()
    (other / "split.csv").write_text(
        "".join(f"{row}\n" for row in rows if not re.match(r"low\.(0[235-9]|1.)", row))
    )
    return other, extractor
