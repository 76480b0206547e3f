"""Say in one line which results differ from the last commit, why, and how to keep them.

`make repro` ends with it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import yaml

from genrepro.core.paths import METRICS, PREDICTIONS, ROBUSTNESS, SPLIT, TEST
from genrepro.core.stage import run
from tools.settings import flat

LOCK = Path("dvc.lock")
RESULTS = (LOCK, METRICS, PREDICTIONS, SPLIT, f":(exclude){ROBUSTNESS}")  # of stages, not of tools
ROUNDING = (
    "parameters, code and data are the same, so this processor or its libraries round differently"
)


def main() -> None:
    argparse.ArgumentParser(prog="python -m tools.baseline", description=__doc__).parse_args()
    if not git("rev-parse", "HEAD"):
        return
    changed = git("status", "--porcelain", "--untracked-files=all", "--", *map(str, RESULTS))
    if not changed:
        print(committed(json.loads(TEST.read_text("utf-8"))))
        return
    old, new = (inputs(yaml.safe_load(text) or {}) for text in _versions(LOCK))
    causes = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    before, now = (json.loads(text or "{}").get("accuracy") for text in _versions(TEST))
    print(sentence(len(changed.splitlines()), causes, before, now))


def committed(test: dict) -> str:
    """The committed result, which was reproduced."""
    interval = test["accuracy_interval"]
    return (
        f"Results are those of the last commit: test accuracy {test['accuracy']:.3f}, interval "
        f"{interval['low']:.3f} to {interval['high']:.3f}, on {test['clips']} clips."
    )


def sentence(files: int, causes: list[str], before: float | None, now: float | None) -> str:
    """What changed, why, and what to type.

    Args:
        files: how many files of results differ from the last commit.
        causes: the parameters, code and data that differ, by name.
        before, now: the test accuracy in the last commit and in the workspace, if there is one.
    """
    old, new = (f"{each:.3f}" if each is not None else "none" for each in (before, now))
    test = f"{new}, as committed" if old == new else f"{old} → {new}"
    more = f" and {len(causes) - 3} more" if len(causes) > 3 else ""
    why = f"you changed {', '.join(causes[:3])}{more}" if causes else ROUNDING
    return (
        f"{files} file(s) of results are not those of the last commit (test accuracy {test}): "
        f"{why}. To make them your baseline, type `git commit -am Baseline`."
    )


def inputs(lock: dict) -> dict[str, object]:
    """What the stages of a dvc.lock were run with, but for the outputs of earlier stages."""
    stages = lock.get("stages", {}).values()
    outputs = {out["path"] for stage in stages for out in stage.get("outs", [])}
    found: dict[str, object] = {}
    for stage in stages:
        for section in stage.get("params", {}).values():
            found |= flat(section)
        for dep in stage.get("deps", []):
            if not any(f"{dep['path']}/".startswith(f"{out}/") for out in outputs):
                found[dep["path"]] = dep.get("md5")
    return found


def _versions(path: Path) -> tuple[str, str]:
    """A file's text in the last commit and in the workspace; empty where it is not there."""
    return git("show", f"HEAD:./{path}"), path.read_text("utf-8") if path.exists() else ""


def git(*words: str) -> str:
    """What Git prints; nothing where there is no commit or no Git."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, encoding="utf-8")
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


if __name__ == "__main__":
    run(main)
