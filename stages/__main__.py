"""Run one stage of dvc.yaml: python -m stages NAME."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from genrepro.core.errors import PipelineError, missing_package

try:
    from genrepro.core.params import load
    from genrepro.core.stage import run
except ModuleNotFoundError as error:  # another Python, without the packages
    if sentence := missing_package(error):
        sys.exit(f"error: {sentence}")
    raise

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def main() -> None:
    if sys.argv[1:] not in ([name] for name in NAMES):
        raise PipelineError(f"type `python -m stages NAME`; the stages are {', '.join(NAMES)}.")
    params = load()  # before a stage's imports, which take seconds
    importlib.import_module(f"stages.{sys.argv[1]}").main(params)


if __name__ == "__main__":
    run(main)
