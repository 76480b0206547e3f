"""The correction loop: mark clips, type what the app says, and train with the right labels."""

from __future__ import annotations

import json

import pandas as pd

from tests.support.pipeline_repo import CORPUS, STAGES, Clone, ran
from tests.support.torture_place import tree_sha256

MARK = """
from genrepro.corpus.corrections import Correction
from tools import corrections
corrections.mark({"low.00": Correction("middle", "an octave up"), "low.01": Correction("")})
print(corrections.command())
"""
UNDO = "from tools import corrections; corrections.undo('low.00')"


def labels(clone: Clone) -> dict[str, str]:
    return pd.read_csv(clone.path / "data/clips.csv").set_index("clip")["label"].to_dict()


def test_corrections_are_applied_counted_and_undone_and_only_what_depends_on_them_reruns(
    repo, tmp_path
):
    clone = repo.copy(tmp_path / "repo")
    corpus, before = tree_sha256(clone.path / CORPUS), labels(clone)
    command = clone.run("python", "-c", MARK).stdout.split()
    assert command == [
        "dvc",
        "exp",
        "run",
        "-S",
        f"data.corrections=corpora/{CORPUS}/corrections.csv",
    ]

    affected = [stage for stage in STAGES if stage != "fetch_model"]
    assert ran(clone.dvc(*command[1:])) == affected
    counted = json.loads((clone.path / "metrics/data.json").read_text())["corrections"]
    assert counted == {"relabelled": 1, "left_out": 1, "not_in_the_corpus": []}
    expected = before | {"low.00": "middle"}
    del expected["low.01"]
    assert labels(clone) == expected
    assert (clone.path / "data/raw/middle/low.00.wav").exists()
    assert tree_sha256(clone.path / CORPUS) == corpus
    assert clone.changed() == []

    clone.run("python", "-c", UNDO)
    assert clone.changed() == ["fetch_data"]
    printed = clone.dvc("repro", "prepare")
    assert ran(printed) == ["fetch_data", "prepare"]
    assert labels(clone) == {clip: label for clip, label in before.items() if clip != "low.01"}
