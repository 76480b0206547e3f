"""Live curves are asked for by GENREPRO_REPORT_TO, and are off without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from genrepro.core import reporting
from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.training import fine_tune
from tests.support.samples import ROOT


@pytest.fixture
def environment(in_tmp, monkeypatch):
    """os.environ without what decides here; changes of the code under test end with the test."""
    ours = ("GENREPRO_", "DVC_", "TENSORBOARD_", "MLFLOW_", "WANDB_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    monkeypatch.setattr(os, "environ", kept)
    return kept


def test_nothing_is_reported_unless_asked_for(environment):
    before = dict(environment)
    assert reporting.arguments() == {"report_to": "none"}
    environment["GENREPRO_REPORT_TO"] = "none"
    assert reporting.arguments() == {"report_to": "none"}
    assert environment == before | {"GENREPRO_REPORT_TO": "none"}
    assert not Path("logs").exists()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("tensorbord", "must be none, tensorboard, mlflow or wandb, not 'tensorbord'"),
        ("mlflow", "type `pip install mlflow`"),
    ],
)
def test_a_wrong_name_or_a_missing_package_is_one_sentence(environment, monkeypatch, asked, words):
    monkeypatch.setattr(reporting.importlib.util, "find_spec", lambda name: None)
    environment["GENREPRO_REPORT_TO"] = asked
    with pytest.raises(PipelineError, match=words):
        reporting.tracker()


def test_trackers_write_to_the_repositorys_logs_unless_told_otherwise(environment, monkeypatch):
    monkeypatch.setattr(reporting.importlib.util, "find_spec", lambda name: True)
    environment |= {
        "GENREPRO_REPORT_TO": "tensorboard",
        "DVC_ROOT": str(Path("repository").absolute()),
        "DVC_EXP_NAME": "half",
        "MLFLOW_TRACKING_URI": "http://mlflow.example.org",
    }
    Path("repository").mkdir()
    recipe = load(ROOT / "params.yaml").train.model_copy(update={"device": "cpu"})
    args = fine_tune.arguments(recipe, 1e-3, 0, Path("checkpoints"))
    assert args.report_to == ["tensorboard"] and args.run_name.startswith("half-")
    logs = Path("repository/logs").absolute()
    assert environment["TENSORBOARD_LOGGING_DIR"] == str(logs / "tensorboard" / args.run_name)
    assert environment["WANDB_DIR"] == str(logs)
    assert environment["MLFLOW_TRACKING_URI"] == "http://mlflow.example.org"
