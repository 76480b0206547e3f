"""Read predictions and parameters of experiments, Git revisions and the workspace through DVC."""

from __future__ import annotations

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.repo import Repo
from dvc.scm import RevError

from genrepro.core.errors import PipelineError, one_line
from genrepro.core.paths import PREDICTIONS
from tools.settings import flat

_TEXT = ("clip", "label", "group", "predicted")


def predictions(name: str) -> pd.DataFrame:
    """Read data/predictions.csv of an experiment, a Git revision or "workspace".

    Raises:
        PipelineError: there is no such run, or its predictions are missing or unreadable.
    """
    text = dict.fromkeys(_TEXT, str)  # a label "007" or "NA" is text
    if name == "workspace" and not PREDICTIONS.exists():
        raise PipelineError(f"{PREDICTIONS} does not exist yet: type `dvc repro evaluate`.")
    try:
        if name == "workspace":
            return pd.read_csv(PREDICTIONS, dtype=text, keep_default_na=False)
        with dvc.api.open(PREDICTIONS.as_posix(), rev=name, encoding="utf-8") as file:
            return pd.read_csv(file, dtype=text, keep_default_na=False)
    except NotDvcRepoError:
        raise PipelineError(
            "this is not a DVC repository: run from the repository's root."
        ) from None
    except RevError:
        raise PipelineError(
            f"there is no experiment, branch or commit {name}: `dvc exp list -A` and `git branch` "
            f"list them, and `dvc exp pull origin {name}` fetches an experiment that was pushed."
        ) from None
    except (DvcException, OSError):
        raise PipelineError(
            f"{PREDICTIONS} of {name} is neither in Git nor in DVC's cache: check out {name}, type "
            "`dvc repro evaluate`, and commit the file."
        ) from None
    except ValueError as error:
        raise PipelineError(
            f"{PREDICTIONS} of {name} is not such a table ({one_line(error, 300)}): type "
            "`dvc repro -f evaluate`."
        ) from None


def family(names: str) -> list[pd.DataFrame]:
    """Predictions of several runs, given as comma-separated names: folds or seeds of one recipe.

    Raises:
        PipelineError: as for `predictions`, or no run is named.
    """
    found = [predictions(name.strip()) for name in names.split(",") if name.strip()]
    if not found:
        raise PipelineError(f"{names!r} names no run: `dvc exp list -A` lists the experiments.")
    return found


def experiments() -> list[str]:
    """Names of the experiments based on the current commit, sorted.

    Raises:
        PipelineError: this is not a DVC repository, or it has no commit.
    """
    try:
        with Repo() as repo:
            found = repo.experiments.ls()
    except DvcException as error:
        raise PipelineError(f"DVC cannot list experiments here: {error}") from None
    return sorted(name for group in found.values() for name, _ in group)


def parameters(name: str) -> dict[str, object]:
    """The parameters that a run's stages depend on, flat: {"train.epochs": 10, …}.

    Raises:
        PipelineError: there is no such run.
    """
    try:
        nested = dvc.api.params_show(rev=None if name == "workspace" else name)
    except DvcException as error:
        raise PipelineError(f"cannot read the parameters of {name}: {error}") from None
    return flat(nested)
