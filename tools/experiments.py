"""List the experiments: what differs from the commit they are based on, accuracies, seconds.

Choose by validation accuracy: the best of many test accuracies looks better than it is. The
interval is that of the test accuracy; the seconds are those of the stages that the experiment ran.
"""

from __future__ import annotations

import argparse
import itertools
import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo

from genrepro.core.errors import PipelineError
from genrepro.core.paths import PARAMS, SPEED, TEST, VALIDATION
from genrepro.core.stage import run
from tools.settings import differences, flat, shown

WIDTH = 120  # columns of the terminal
HEAD = ["experiment", "what differs", "validation", "test", "interval", "seconds"]


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tools.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    found = collected()
    print(table(found))
    if not any(name.startswith("  ") and name != "  workspace" for name, *_ in found):
        print("There is no experiment yet: type `dvc exp run -S train.batch_size=4`, for example.")


def collected() -> list[list[str]]:
    """The rows of the last commit, the workspace and all experiments.

    Raises:
        PipelineError: this is not a DVC repository, or it has no commit.
    """
    try:
        with Repo() as repo:
            bases = list(repo.experiments.ls(all_commits=True))
            workspace, *states = repo.experiments.show(revs=["HEAD", *bases])
    except DvcException as error:
        raise PipelineError(f"DVC cannot list experiments here: {error}") from None
    except ValueError:  # nothing to unpack
        raise PipelineError("this repository has no commit yet: type `git commit`.") from None
    return list(rows(workspace, states))


def rows(workspace: Any, states: Sequence[Any]) -> Iterator[list[str]]:
    """One row per commit, each followed by those of its experiments; the workspace's is second.

    Args:
        workspace, states: what DVC's `experiments.show` returns.
    """
    for number, state in enumerate(states):
        name = f"{state.name} ({state.rev[:7]})" if state.name else state.rev[:7]
        yield [name, "", *figures(state.data), ""]
        changed = changes(state.data, workspace.data)
        if number == 0 and (changed or figures(workspace.data) != figures(state.data)):
            yield ["  workspace", changed, *figures(workspace.data), ""]
        for group in state.experiments or []:
            for each in group.revs[:1]:
                status = group.executor.state if group.executor else "success"
                results = figures(each.data) if status == "success" else [status, "", ""]
                own = each.name or each.rev[:7]
                yield [f"  {own}", changes(state.data, each.data), *results, seconds(own)]


def changes(base: Any, other: Any) -> str:
    """The parameters in which a run differs from its commit: "train.epochs=5 seed=1"."""
    old, new = (flat(_content(data, "params", PARAMS)) for data in (base, other))
    return " ".join(f"{key}={shown(both[1])}" for key, both in differences(old, new).items())


def figures(data: Any) -> list[str]:
    """Validation accuracy, test accuracy and its interval; empty where there is none."""
    validation, test = (_content(data, "metrics", path) for path in (VALIDATION, TEST))
    interval = test.get("accuracy_interval") or {}
    known = interval.get("low") is not None
    return [
        *(f"{each['accuracy']:.3f}" if "accuracy" in each else "" for each in (validation, test)),
        f"{interval['low']:.3f} to {interval['high']:.3f}" if known else "",
    ]


def _content(data: Any, kind: str, path: Path) -> dict:
    """The content of a file of parameters or metrics, as DVC found it in a run."""
    found = getattr(data, kind, {}).get(path.as_posix(), {}).get("data")
    return found if isinstance(found, dict) else {}


def seconds(name: str) -> str:
    """How long the stages of an experiment took, where it was run in this repository."""
    files = sorted((SPEED / name).glob("*.json"))
    taken = [json.loads(file.read_text(encoding="utf-8"))["seconds"] for file in files]
    return f"{sum(taken):.0f}" if taken else ""


def table(body: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text of at most WIDTH columns; long first and second cells are wrapped."""
    widths = [max(len(row[i]) for row in [HEAD, *body]) for i in range(len(HEAD))]
    widths[0] = min(widths[0], 30)
    widths[1] = min(widths[1], WIDTH - sum(widths) + widths[1] - 2 * (len(HEAD) - 1))
    lines = []
    for row in [HEAD, *body]:
        wrapped = [
            textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(row, widths)
        ]
        for cells in itertools.zip_longest(*wrapped, fillvalue=""):
            lines.append("  ".join(map(str.ljust, cells, widths)).rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
