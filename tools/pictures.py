"""Draw the current run's results as PNG files, for a README or a pull request.

Writes curves.png, confusion.png, reliability.png and recall.png. For example:
python -m tools.pictures docs/pictures
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from genrepro.core.errors import PipelineError
from genrepro.core.files import atomic_output
from genrepro.core.stage import log, run
from tools import figures, results

DEFAULT = Path("docs/pictures")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.pictures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=DEFAULT,
        help=f"the folder to write to; default: {DEFAULT}",
    )
    folder = parser.parse_args().folder
    if folder.exists() and not folder.is_dir():
        raise PipelineError(f"{folder} is a file: name a folder for the pictures.")
    for path in draw(folder):
        log(str(path))


def draw(folder: Path) -> list[Path]:
    """Draw all pictures before writing any, so that a folder never mixes two runs.

    Raises:
        PipelineError: a result is missing.
    """
    figures.use_style()
    drawn = {folder / f"{name}.png": figure() for name, figure in FIGURES.items()}
    for path, figure in drawn.items():
        with atomic_output(path) as draft:
            figures.save(figure, draft)
    return list(drawn)


def curves() -> Figure:
    """By epoch, or of a probe, which has none, by penalty."""
    chosen = results.validation()
    if "penalty" in chosen:
        return figures.penalties(results.penalties(), chosen["penalty"])
    return figures.curves(results.curves(), chosen["epoch"])


def confusion() -> Figure:
    frame = results.predictions()
    return figures.confusion(frame["label"], frame["predicted"])


def reliability() -> Figure:
    return figures.reliability(results.reliability())


def recall() -> Figure:
    return figures.recall(results.per_label())


FIGURES: dict[str, Callable[[], Figure]] = {
    "curves": curves,
    "confusion": confusion,
    "reliability": reliability,
    "recall": recall,
}

if __name__ == "__main__":
    run(main)
