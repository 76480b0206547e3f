"""The corrections of the current corpus: look them up, mark a clip, undo, and what to type then.

The app and tools.label_studio write them; fetch_data applies them if data.corrections names them.
"""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from genrepro.core import params
from genrepro.core.files import write_text
from genrepro.corpus.corrections import COLUMNS, Correction, read_table

_lock = threading.Lock()  # the app answers several browsers at once


def place() -> Path:
    """Where the corrections are: data.corrections or, without it, corpora/NAME/corrections.csv."""
    data = params.load().data
    if data.corrections:
        return Path(data.corrections)
    name = Path(data.corpus).expanduser().resolve().name
    plain = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)  # needs no quotes in a command
    return Path("corpora") / plain / "corrections.csv"


def read() -> dict[str, Correction]:
    """Clip -> correction, in the file's order; empty if there is no file.

    Raises:
        PipelineError: the file or params.yaml cannot be used.
    """
    path = place()
    return read_table(path) if path.exists() else {}


def mark(more: Mapping[str, Correction]) -> None:
    """Add corrections to the file, or replace those of the same clips.

    Raises:
        PipelineError: as `read`.
    """
    with _lock:
        _write({**read(), **more})


def undo(clip: str) -> None:
    """Remove a clip's correction, if it has one.

    Raises:
        PipelineError: as `read`.
    """
    with _lock:
        _write({name: each for name, each in read().items() if name != clip})


def command() -> str:
    """What to type so that the corrections are applied and the model is trained with them."""
    if params.load().data.corrections:
        return "dvc repro"
    return f"dvc exp run -S data.corrections={place()}"


def _write(table: Mapping[str, Correction]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((clip, *each) for clip, each in table.items())
    write_text(place(), text.getvalue())
