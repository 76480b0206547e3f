"""Draw the current run's results as PNG files, for a README or a pull request.

Writes curves.png, confusion.png, reliability.png and recall.png, and robustness.png if
tools.robustness was run. Each holds a hash of the figures that it shows in its metadata.
For example: python -m tools.pictures docs/pictures
"""

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from genrepro.core.errors import PipelineError
from genrepro.core.files import atomic_output
from genrepro.core.paths import CURVES, LABELS, PREDICTIONS, RELIABILITY, ROBUSTNESS, TEST
from genrepro.core.stage import log, run
from tools import figures, results

DEFAULT = Path("docs/pictures")
SHOWN = (CURVES, LABELS, PREDICTIONS, RELIABILITY, TEST)  # all in Git
KEY = "Figures"  # of the hash in a PNG's metadata


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
    shown = shown_figures()
    if ROBUSTNESS.exists():
        drawn[folder / "robustness.png"] = figures.robustness(results.robustness())
    for path, figure in drawn.items():
        with atomic_output(path) as draft:
            figures.save(figure, draft, {KEY: shown})
    return list(drawn)


def shown_figures() -> str:
    """A hash of the results that the pictures show; a test compares it with each picture's."""
    found = hashlib.sha256()
    for path in SHOWN:
        found.update(path.read_bytes())
    return found.hexdigest()


def curves() -> Figure:
    return figures.curves(results.curves())


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
