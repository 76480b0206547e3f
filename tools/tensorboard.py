"""The current run's learning curves as TensorBoard logs, beside those that were written before.

python -m tools.tensorboard && tensorboard --logdir runs
"""

import argparse
import csv
from pathlib import Path

from genrepro.core.errors import PipelineError
from genrepro.core.files import remove
from genrepro.core.stage import log, run
from tools.results import CURVES

RUNS = Path("runs")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.tensorboard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", default="workspace", help="what to call this run")
    name = parser.parse_args().name
    if Path(name).name != name or not name.strip("."):  # what is there is removed
        raise PipelineError(f"{name!r} is no name for a folder in {RUNS}/: take a word, as exp-1.")
    write(RUNS / name)


def write(folder: Path) -> None:
    """Write each curve as scalars, a step an epoch, in place of what the folder held.

    Raises:
        PipelineError: there are no curves, or TensorBoard is not installed.
    """
    curves = sorted(CURVES.rglob("*.tsv"))
    if not curves:
        raise PipelineError(f"{CURVES} holds no curves: run `dvc repro train` first.")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise PipelineError(
            "TensorBoard is not installed: type `pip install tensorboard`."
        ) from None
    remove(folder)
    with SummaryWriter(str(folder)) as writer:
        for path in curves:
            tag = path.relative_to(CURVES).with_suffix("").as_posix()
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file, delimiter="\t"):
                    writer.add_scalar(tag, float(row[path.stem]), int(row["step"]))
    log(f"{len(curves)} curves in {folder}: type `tensorboard --logdir {RUNS}`")


if __name__ == "__main__":
    run(main)
