"""From a corpus to data/raw, with what is known about each clip."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genrepro.audio import EXTENSIONS, Inspection
from genrepro.core.errors import PipelineError
from genrepro.core.files import sha256
from genrepro.core.params import Data
from genrepro.core.processes import map_processes
from genrepro.corpus.card import CARD, Archive, Card, Folder, Generated, Parquet, load_card
from genrepro.corpus.facts import Facts, Known
from genrepro.corpus.fingerprint import FRAMES_PER_SECOND
from genrepro.corpus.inspection import Inspected, inspect_clip
from genrepro.corpus.shelf import Item, Shelf

COLUMNS = ["clip", "path", "label", "seconds", "sample_rate", "channels", "sha256"]
COLUMNS += ["group", "title", "part"]
OTHER_AUDIO = (".m4a", ".aac", ".wma", ".opus", ".aif", ".aiff", ".au", ".amr", ".mp4", ".webm")


class Clip(NamedTuple):
    """A usable clip: where it is, what it holds, its fingerprint, and its facts."""

    item: Item
    inspection: Inspection
    fingerprint: np.ndarray  # uint32 (frames,)
    facts: Facts


@dataclass(frozen=True)
class Corpus:
    """Clips, sorted by name, and the files that could not be used: name -> reason."""

    clips: list[Clip]
    skipped: dict[str, str]
    source: dict[str, str | None]  # name, title, licence, repo and revision, where known


def gather(data: Data, raw: Path) -> Corpus:
    """Copy the corpus that `data` names to the new folder `raw`, as <label>/<clip>.<ext>.

    Raises:
        PipelineError: the corpus is missing, its card, facts or pattern cannot be used, its
            download failed, or fewer than two labels have clips.
    """
    folder = Path(data.corpus)
    if not folder.is_dir():
        raise PipelineError(
            f"data.corpus: there is no folder {folder}: use one of corpora/, "
            "or a folder of your own with <label>/<clip>.<wav|flac|ogg|mp3>."
        )
    card = load_card(folder)
    known = _known(data, folder, card)
    shelf = Shelf(raw)
    _fill(shelf, folder, card)
    clips, facts = [], {}
    items = shelf.named()
    results = map_processes(inspect_clip, [item.path for item in items], "inspecting")
    for item, result in zip(items, results, strict=True):
        if isinstance(result, Inspected):
            about = facts[item.clip] = known.about(item.names, item.stem + item.path.suffix)
            clips.append(Clip(item, result.inspection, result.fingerprint, item.facts | about))
        else:
            shelf.drop(item, result)
    found = Corpus(clips, dict(sorted(shelf.skipped.items())), _source(folder, card))
    _check_labels(found, folder)
    known.check_used(facts, [clip.item.path.name for clip in clips])
    return found


def _source(folder: Path, card: Card | None) -> dict[str, str | None]:
    keys = ("title", "licence", "repo", "revision")
    return {"name": folder.name} | {key: getattr(card, key, None) for key in keys}


def _known(data: Data, folder: Path, card: Card | None) -> Known:
    pattern = data.name_pattern or (card.name_pattern if card else None)
    if not data.facts:
        return Known.of(folder / card.facts if card and card.facts else None, pattern)
    watched = (Path("corpora").resolve(), folder.resolve())
    if not any(Path(data.facts).resolve().is_relative_to(place) for place in watched):
        raise PipelineError(
            f"data.facts: {data.facts} is neither in corpora/ nor in data.corpus, so DVC would not "
            "notice when it changes: move it to one of them."
        )
    return Known.of(Path(data.facts), pattern)


def _fill(shelf: Shelf, folder: Path, card: Card | None) -> None:
    match card:
        case None:
            _take_folder(folder, shelf)
        case Folder():
            path = Path(card.path).expanduser()
            if not path.is_dir():
                raise PipelineError(f"{folder / CARD}: path: there is no folder {card.path}.")
            _take_folder(path, shelf)
        case Generated():
            _take_pieces(card.model_dump(), shelf)
        case Archive():
            _take_archive(card, shelf)
        case Parquet():
            os.environ.setdefault("USE_TORCH", "0")  # or datasets imports torch
            from genrepro.corpus import parquet  # datasets takes a second to import

            parquet.take(card, shelf)


def _take_folder(root: Path, shelf: Shelf) -> None:
    """Copy `<label>/<clip>.<ext>`, sorted by name, whatever order the disk lists them in."""
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            for file in sorted(entry.rglob("*")):
                _take_file(root, file, shelf)
        else:
            _take_file(root, entry, shelf)


def _take_file(root: Path, file: Path, shelf: Shelf) -> None:
    extension = file.suffix.lower()
    source = file.relative_to(root)
    if extension not in EXTENSIONS + OTHER_AUDIO or file.is_dir():
        return
    if reason := _refusal(file, source, extension):
        shelf.refuse(source.as_posix(), reason)
        return
    target = shelf.place(source.parts[0], file.stem, file.suffix, source.as_posix())
    if target:
        shutil.copyfile(file, target)


def _refusal(file: Path, source: Path, extension: str) -> str | None:
    if any(part.startswith(".") for part in source.parts):
        return "hidden file"
    if len(source.parts) == 1:
        return "not in a label's folder"
    if len(source.parts) > 2:
        return "in a folder inside its label's folder"
    if extension in OTHER_AUDIO:
        return f"{extension} files cannot be read: convert it to FLAC"
    return None if file.is_file() else "not a regular file, or a broken link"


def _take_pieces(card: dict, shelf: Shelf) -> None:
    from genrepro.corpus.demo import composer  # scipy.signal takes a second to import

    orders = []
    for piece in composer.pieces(card):
        path = shelf.place(piece.label, piece.clip, ".flac", piece.clip, {"group": piece.group})
        if path:
            orders.append(composer.Order(piece, card, path))
    map_processes(composer.compose, orders, "composing")


def _take_archive(card: Archive, shelf: Shelf) -> None:
    from genrepro.corpus import archive
    from genrepro.hub import client  # only this kind needs huggingface_hub

    tarball = client.fetch(card.repo, card.file, card.revision, "dataset")
    if sha256(tarball) != card.sha256:
        raise PipelineError(
            f"{card.file} of {card.repo} does not have the sha256 in the card: the card is wrong, "
            "or the file was changed. It was not used."
        )
    archive.unpack(tarball, shelf)


def _check_labels(corpus: Corpus, folder: Path) -> None:
    labels = sorted({clip.item.label for clip in corpus.clips})
    if len(labels) >= 2:
        return
    skipped = ""
    if corpus.skipped:
        name, reason = next(iter(corpus.skipped.items()))
        skipped = f" ({len(corpus.skipped)} files were skipped, e.g. {name}: {reason})"
    if labels:
        raise PipelineError(
            f"data.corpus: {folder} holds clips of a single label, {labels[0]!r}{skipped}: "
            "a classifier needs two or more, each in a folder of its own."
        )
    raise PipelineError(
        f"data.corpus: {folder} holds no usable clip{skipped}: "
        "it should hold <label>/<clip>.<wav|flac|ogg|mp3>."
    )


def table(corpus: Corpus, raw: Path) -> str:
    """data/clips.csv: one row per clip, sorted by clip; paths are those below the final `raw`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for item, found, _, facts in corpus.clips:
        path = (raw / item.label / item.path.name).as_posix()
        sound = (f"{found.seconds:.3f}", found.sample_rate, found.channels, found.sha256)
        about = [facts.get(column, "") for column in ("group", "title", "part")]
        writer.writerow([item.clip, path, item.label, *sound, *about])
    return text.getvalue()


def summary(corpus: Corpus) -> dict[str, Any]:
    """metrics/data.json: what the corpus holds, and which files were skipped and why."""
    found = [clip.inspection for clip in corpus.clips]
    labels = Counter(clip.item.label for clip in corpus.clips)
    rates = Counter(inspection.sample_rate for inspection in found)
    cut = {c.item.clip: c.inspection.cut_short for c in corpus.clips if c.inspection.cut_short}
    return {
        "corpus": corpus.source,
        "clips": len(found),
        "labels": dict(sorted(labels.items())),
        "seconds": round(sum(inspection.seconds for inspection in found), 3),
        "sample_rates": {str(rate): count for rate, count in sorted(rates.items())},
        "groups": len({c.facts["group"] for c in corpus.clips if c.facts.get("group")}),
        "cut_short": [{"clip": clip, "reason": reason} for clip, reason in cut.items()],
        "skipped": [{"file": f, "reason": reason} for f, reason in corpus.skipped.items()],
    }


def write_fingerprints(corpus: Corpus, path: Path) -> None:
    """Write clip -> fingerprint as parquet, whose bytes depend on nothing else."""
    import pyarrow  # not at the top: worker processes do not need it
    from pyarrow import parquet

    names = pyarrow.array([clip.item.clip for clip in corpus.clips], pyarrow.string())
    prints = [clip.fingerprint for clip in corpus.clips]
    prints = pyarrow.array(prints, pyarrow.list_(pyarrow.uint32()))
    about = {"frames_per_second": repr(FRAMES_PER_SECOND)}
    table = pyarrow.table({"clip": names, "fingerprint": prints}).replace_schema_metadata(about)
    parquet.write_table(table, path)
