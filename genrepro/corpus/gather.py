"""From a corpus to data/raw, with what is known about each clip."""

from __future__ import annotations

import csv
import fnmatch
import io
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genrepro.audio import Inspection
from genrepro.core.errors import PipelineError
from genrepro.core.files import remove, sha256
from genrepro.core.params import Data
from genrepro.core.paths import REPLACED
from genrepro.core.processes import map_processes
from genrepro.corpus import folder as files
from genrepro.corpus.archive import ENDINGS, unpack
from genrepro.corpus.card import CARD, Archive, Card, Files, Generated, Parquet, load_card
from genrepro.corpus.corrections import Corrections, read_table
from genrepro.corpus.facts import Facts, Known
from genrepro.corpus.fingerprint import FRAMES_PER_SECOND
from genrepro.corpus.inspection import Inspected, inspect_clips
from genrepro.corpus.layout import canonical
from genrepro.corpus.shelf import Item, Shelf
from genrepro.corpus.sources import Source, is_sound, walk

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
    corrections: dict[str, Any] | None  # what became of data.corrections, if there are any


def gather(data: Data, raw: Path, earlier: Path | None = None) -> Corpus:
    """Copy the corpus that `data` names to the new folder `raw`, as <label>/<clip>.<ext>.

    Args:
        earlier: what an earlier run found in clips, by content; see `inspect_clips`.

    Raises:
        PipelineError: the corpus is missing, its card, facts or pattern cannot be used, its
            download failed, or fewer than two labels have clips.
    """
    found = survey(data, raw, earlier=earlier)
    check_labels(found, Path(data.corpus))
    return found


def survey(data: Data, raw: Path, links: bool = False, earlier: Path | None = None) -> Corpus:
    """Gather also what has too few labels to train on; with links to a folder's files, not copies.

    Raises:
        PipelineError: as `gather`.
    """
    place = Path(data.corpus).expanduser()
    _check_place(place)
    card = load_card(place)
    known = _known(data, place, card)
    corrections = _corrections(data, place)
    shelf = Shelf(raw, links)
    _fill(shelf, place, card, known)
    clips, facts, names = [], {}, []
    items = shelf.named()
    results = inspect_clips([item.path for item in items], earlier)
    for item, result in zip(items, results, strict=True):
        if isinstance(result, Inspected):
            facts[item.clip] = known.about(item.names, item.stem + item.path.suffix, item.source)
            about = item.facts | facts[item.clip]
            if "part" in about:
                about["part"] = canonical(about["part"])
            names.append(item.names)
            if right := corrections.apply(item, shelf) if corrections else item:
                clips.append(Clip(right, result.inspection, result.fingerprint, about))
        else:
            shelf.drop(item, result)
    kept = Counter(clip.item.label for clip in clips)
    warnings = shelf.warnings + known.coverage(names)
    warnings += _losses(kept, shelf.lost)
    known.check_used(facts, [item.path.name for item in items if item.clip in facts])
    corrected = None
    if corrections:
        corrected, more = corrections.outcome(items)
        warnings += more
    return Corpus(
        clips=clips,
        skipped=dict(sorted(shelf.skipped.items())),
        others=dict(sorted(shelf.others.items())),
        warnings=warnings,
        source=_source(place, card),
        lost=dict(shelf.lost),
        corrections=corrected,
    )


def _check_place(place: Path) -> None:
    if not place.exists():
        raise PipelineError(
            f"data.corpus: there is no folder {place}: use one of corpora/, "
            "or a folder of your own with <label>/<clip>.<wav|flac|ogg|mp3|…>."
        )
    if place.is_file() and not place.name.lower().endswith(ENDINGS):
        raise PipelineError(
            f"data.corpus: {place} is neither a folder nor an archive ({', '.join(ENDINGS)})."
        )
    for output in map(Path.resolve, REPLACED):
        if output.is_relative_to(place.resolve()) or place.resolve().is_relative_to(output):
            raise PipelineError(
                f"data.corpus: {place} is, holds or is in a folder that a stage replaces, "
                f"{output.relative_to(Path.cwd())}: move the clips to a folder of their own, such "
                "as data/my-sounds."
            )


def refuse_foreign(raw: Path, clips: Path) -> None:
    """Refuse to replace a folder `raw` with sound files that are not in the table `clips`.

    Raises:
        PipelineError: somebody put their own files there; the message names one.
    """
    written: set[str] = set()
    if clips.is_file():
        with clips.open(encoding="utf-8", newline="") as file:
            written = {row["path"] for row in csv.DictReader(file)}
    there = (each.path for each in walk(raw, watched=False) if is_sound(each.name))
    foreign = sorted(path.as_posix() for path in there if path.as_posix() not in written)
    if foreign:
        raise PipelineError(
            f"{raw} would be replaced, and holds files that are not in {clips}, e.g. {foreign[0]}: "
            "move your clips to a folder of their own, such as data/my-sounds, or delete "
            f"{raw} if they are copies."
        )


def _source(folder: Path, card: Card | None) -> dict[str, str | None]:
    keys = ("title", "licence", "repo", "revision")
    about = {"name": folder.name} | {key: getattr(card, key, None) for key in keys}
    return about | ({"protocol": card.protocol} if card and card.protocol else {})


def _known(data: Data, folder: Path, card: Card | None) -> Known:
    pattern = data.name_pattern or (card.name_pattern if card else None)
    if not data.facts:
        return Known.of(folder / card.facts if card and card.facts else None, pattern)
    _check_watched("data.facts", data.facts, folder)
    return Known.of(Path(data.facts), pattern)


def _corrections(data: Data, folder: Path) -> Corrections | None:
    if not data.corrections:
        return None
    _check_watched("data.corrections", data.corrections, folder)
    return Corrections(read_table(Path(data.corrections)), data.corrections)


def _check_watched(parameter: str, path: str, folder: Path) -> None:
    """Refuse a file that is no dependency of fetch_data: DVC knows none that may be missing."""
    watched = (Path("corpora").resolve(), folder.resolve())
    if not any(Path(path).resolve().is_relative_to(place) for place in watched):
        raise PipelineError(
            f"{parameter}: {path} is neither in corpora/ nor in data.corpus, so DVC would not "
            "notice when it changes: move it to one of them."
        )


def _fill(shelf: Shelf, place: Path, card: Card | None, known: Known) -> None:
    unpacked = shelf.root / ".unpacked"
    match card:
        case None | Files():
            found = _files(card, place, unpacked, shelf)
            files.take(found, shelf, card, known.pattern, move=unpacked.exists())
        case Archive():
            found = unpack(_download(card), unpacked, shelf)
            files.take(found, shelf, pattern=known.pattern, move=True)
        case Generated():
            _take_pieces(card.model_dump(), shelf)
        case Parquet():
            os.environ.setdefault("USE_TORCH", "0")  # or datasets imports torch
            from genrepro.corpus import parquet  # datasets takes a second to import

            parquet.take(card, shelf)
    remove(unpacked)


def _files(card: Files | None, place: Path, unpacked: Path, shelf: Shelf) -> list[Source]:
    """The files of a corpus that is a folder, an archive or a repository on the Hub."""
    if card and card.repo:
        from genrepro.hub import client  # only a repository needs huggingface_hub

        root = client.fetch_matching(card.repo, card.files, card.revision or "", "dataset")
        wanted = re.compile("|".join(map(fnmatch.translate, card.files)))
        return [each for each in walk(root, watched=False) if wanted.match(str(each.name))]
    where = Path(card.path).expanduser() if card and card.path else place
    if where.is_dir():
        return walk(where, watched=where == place)
    if where.is_file():
        return unpack(where, unpacked, shelf)
    download = f": download {card.download}, or correct the path" if card and card.download else ""
    raise PipelineError(f"{place / CARD}: path: there is no file or folder {where}{download}.")


def _take_pieces(card: dict, shelf: Shelf) -> None:
    from genrepro.corpus.demo import composer  # scipy.signal takes a second to import

    orders = []
    for piece in composer.pieces(card):
        path = shelf.place(piece.label, piece.clip, ".flac", piece.clip, {"group": piece.group})
        if path:
            orders.append(composer.Order(piece, card, path))
    map_processes(composer.compose, orders, "composing")


def _download(card: Archive) -> Path:
    from genrepro.hub import client  # only a repository needs huggingface_hub

    archive = client.fetch(card.repo, card.file, card.revision, "dataset")
    if sha256(archive) != card.sha256:
        raise PipelineError(
            f"{card.file} of {card.repo} does not have the sha256 in the card: the card is wrong, "
            "or the file was changed. It was not used."
        )
    return archive


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
        **({"corrections": corpus.corrections} if corpus.corrections else {}),
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
