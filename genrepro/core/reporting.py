"""Curves that one can watch while a model trains: in TensorBoard, MLflow or Weights & Biases.

Asked for by an environment variable, not by a parameter: they change no byte of the results, and a
parameter would retrain a finished model and drop the checkpoint of an unfinished one.
"""

from __future__ import annotations

import importlib.util
import os
from datetime import datetime
from pathlib import Path

from genrepro.core import paths
from genrepro.core.errors import PipelineError

VARIABLE = "GENREPRO_REPORT_TO"
TRACKERS = ("tensorboard", "mlflow", "wandb")


def tracker() -> str:
    """What GENREPRO_REPORT_TO asks for, as Trainer's `report_to`: one of TRACKERS, or "none".

    Raises:
        PipelineError: it is something else, or its package is not installed.
    """
    asked = os.environ.get(VARIABLE) or "none"
    if asked not in ("none", *TRACKERS):
        raise PipelineError(
            f"{VARIABLE} must be none, tensorboard, mlflow or wandb, not {asked!r}."
        )
    if asked != "none" and importlib.util.find_spec(asked) is None:
        raise PipelineError(
            f"{VARIABLE}={asked} needs a package that is not installed: type "
            f"`pip install {asked}`, or `unset {VARIABLE}`."
        )
    return asked


def arguments() -> dict[str, str]:
    """What Trainer is told about it; a tracker writes to logs/ unless its own variables say where.

    That is logs/ of the repository, also in the temporary copy in which DVC runs a queued
    experiment.
    """
    chosen = tracker()
    if chosen == "none":
        return {"report_to": chosen}
    name = f"{os.environ.get('DVC_EXP_NAME', 'workspace')}-{datetime.now():%Y%m%d-%H%M%S}"
    logs = Path(os.environ.get("DVC_ROOT", "")).absolute() / paths.LOGS
    logs.mkdir(exist_ok=True)
    for variable, value in {
        "TENSORBOARD_LOGGING_DIR": str(logs / "tensorboard" / name),
        "MLFLOW_TRACKING_URI": f"sqlite:///{logs}/mlflow.db",
        "MLFLOW_EXPERIMENT_NAME": "genrepro",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_PROJECT": "genrepro",
        "WANDB_DIR": str(logs),
    }.items():
        os.environ.setdefault(variable, value)
    return {"report_to": chosen, "run_name": name}
