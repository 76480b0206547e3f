"""From a corpus to data/raw, with what is known about each clip."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genrepro.audio import SOUNDS, Inspection
from genrepro.core.errors import PipelineError
from genrepro.core.files import sha256
from genrepro.core.params import Data
from genrepro.core.processes import map_processes
from genrepro.corpus.card import CARD, Archive, Card, Folder, Generated, Parquet, load_card
from genrepro.corpus.facts import Facts, Known
from genrepro.corpus.fingerprint import FRAMES_PER_SECOND
from genrepro.corpus.inspection import Inspected, inspect_clip
from genrepro.corpus.layout import canonical, recognise
from genrepro.corpus.shelf import Item, Shelf

COLUMNS = ["clip", "path", "label", "seconds", "sample_rate", "channels", "sha256"]
COLUMNS += ["group", "title", "part"]
MOST_LOST = 0.1  # share of a label's files that may be skipped without a warning


class Clip(NamedTuple):
    """A usable clip: where it is, what it holds, its fingerprint, and its facts."""

    item: Item
    inspection: Inspection
    fingerprint: np.ndarray  # uint32 (frames,)
    facts: Facts


@dataclass(frozen=True)
class Corpus:
    """Clips, sorted by name, and what became of all other files."""

    clips: list[Clip]
    skipped: dict[str, str]  # sound files that could not be used -> reason
    others: dict[str, int]  # ending -> number of files that are not audio
    warnings: list[str]
    source: dict[str, str | None]  # name, title, licence, repo and revision, where known
    lost: dict[str, int]  # label -> number of its files that were skipped


def gather(data: Data, raw: Path) -> Corpus:
    """Copy the corpus that `data` names to the new folder `raw`, as <label>/<clip>.<ext>.

    Raises:
        PipelineError: the corpus is missing, its card, facts or pattern cannot be used, its
            download failed, or fewer than two labels have clips.
    """
    found = survey(data, raw)
    check_labels(found, Path(data.corpus))
    return found


def survey(data: Data, raw: Path, links: bool = False) -> Corpus:
    """Gather also what has too few labels to train on; with links to a folder's files, not copies.

    Raises:
        PipelineError: as `gather`.
    """
    folder = Path(data.corpus)
    if not folder.is_dir():
        raise PipelineError(
            f"data.corpus: there is no folder {folder}: use one of corpora/, "
            "or a folder of your own with <label>/<clip>.<wav|flac|ogg|mp3|…>."
        )
    card = load_card(folder)
    known = _known(data, folder, card)
    shelf = Shelf(raw, links)
    _fill(shelf, folder, card)
    clips, facts = [], {}
    items = shelf.named()
    results = map_processes(inspect_clip, [item.path for item in items], "inspecting")
    for item, result in zip(items, results, strict=True):
        if isinstance(result, Inspected):
            facts[item.clip] = known.about(item.names, item.stem + item.path.suffix)
            about = item.facts | facts[item.clip]
            if "part" in about:
                about["part"] = canonical(about["part"])
            clips.append(Clip(item, result.inspection, result.fingerprint, about))
        else:
            shelf.drop(item, result)
    kept = Counter(clip.item.label for clip in clips)
    skipped, others = dict(sorted(shelf.skipped.items())), dict(sorted(shelf.others.items()))
    warnings, source = _losses(kept, shelf.lost), _source(folder, card)
    found = Corpus(clips, skipped, others, warnings, source, dict(shelf.lost))
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
            _take_folder(path, shelf, watched=False)
        case Generated():
            _take_pieces(card.model_dump(), shelf)
        case Archive():
            _take_archive(card, shelf)
        case Parquet():
            os.environ.setdefault("USE_TORCH", "0")  # or datasets imports torch
            from genrepro.corpus import parquet  # datasets takes a second to import

            parquet.take(card, shelf)


def _take_folder(root: Path, shelf: Shelf, watched: bool = True) -> None:
    """Copy the clips below a folder, sorted by path, whatever order the disk lists them in."""
    files = sorted(_files(root, watched))
    sounds = [file for file in files if file.suffix.lower() in SOUNDS]
    visible = [file for file in sounds if not file.name.startswith(".")]
    layout = recognise(file.relative_to(root) for file in visible)
    for file in files:
        source = file.relative_to(root)
        if file.suffix.lower() not in SOUNDS:
            shelf.ignore(file.name)
        elif file.name.startswith("."):
            shelf.refuse(source.as_posix(), "hidden file")
        elif isinstance(place := layout.place(source), str):
            shelf.refuse(source.as_posix(), place)
        elif not file.is_file():
            shelf.refuse(source.as_posix(), "not a regular file, or a broken link", place[0])
        else:
            label, split = place
            facts = {"part": split} if split else {}
            target = shelf.place(label, file.stem, file.suffix, source.as_posix(), facts)
            if target:
                shelf.copy(file, target)


def _files(root: Path, watched: bool) -> Iterator[Path]:
    """All files below a folder, without those in hidden folders."""
    for folder, names, files in os.walk(root, followlinks=not watched):
        names[:] = [name for name in names if not name.startswith(".")]
        links = [name for name in names if Path(folder, name).is_symlink()]
        if links and watched:
            raise PipelineError(
                f"data.corpus: {Path(folder, links[0])} is a link to a folder, and DVC would not "
                "notice when the clips in it change: put the folder itself there, or name it in a "
                "card of kind `folder`."
            )
        here = Path(folder).resolve()
        for name in links:
            if here.is_relative_to(Path(folder, name).resolve()):
                names.remove(name)  # it leads back up
        yield from (Path(folder, name) for name in files)


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


def _losses(kept: Counter[str], lost: Counter[str]) -> list[str]:
    """A warning for each label that lost all its clips, or many."""
    return [
        f"label {label!r}: {lost[label]} of {lost[label] + kept[label]} files were skipped"
        for label in sorted(lost)
        if lost[label] > MOST_LOST * (lost[label] + kept[label])
    ]


def check_labels(corpus: Corpus, folder: Path) -> None:
    """Raise a PipelineError if fewer than two labels have clips."""
    labels = sorted({clip.item.label for clip in corpus.clips})
    if len(labels) >= 2:
        return
    skipped = ""
    if corpus.skipped:
        name, reason = next(iter(corpus.skipped.items()))
        skipped = f" ({len(corpus.skipped)} files were skipped, e.g. {name}: {reason})"
    elif corpus.others:
        skipped = f" (only {', '.join(f'{n} of {each}' for each, n in corpus.others.items())})"
    if labels:
        raise PipelineError(
            f"data.corpus: {folder} holds clips of a single label, {labels[0]!r}{skipped}: "
            "a classifier needs two or more, each in a folder of its own."
        )
    raise PipelineError(
        f"data.corpus: {folder} holds no usable clip{skipped}: "
        "it should hold <label>/<clip>.<wav|flac|ogg|mp3|…>."
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
    remarks = {c.item.clip: c.inspection.remark for c in corpus.clips if c.inspection.remark}
    return {
        "corpus": corpus.source,
        "clips": len(found),
        "labels": dict(sorted(labels.items())),
        "seconds": round(sum(inspection.seconds for inspection in found), 3),
        "sample_rates": {str(rate): count for rate, count in sorted(rates.items())},
        "groups": len({c.facts["group"] for c in corpus.clips if c.facts.get("group")}),
        "cut_short": [{"clip": clip, "reason": reason} for clip, reason in cut.items()],
        "remarks": [{"clip": clip, "remark": remark} for clip, remark in remarks.items()],
        "warnings": corpus.warnings,
        "not_audio": corpus.others,
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
