"""Describe a corpus before any run: labels, lengths, groups, and what would be skipped and why.

The corpus is read as fetch_data would read it, with the facts and the name pattern of params.yaml;
nothing is copied. A picture is drawn as well. For example:
python -m tools.corpus /path/to/folder
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from statistics import median

from genrepro.core import params
from genrepro.core.files import atomic_output
from genrepro.core.stage import run
from genrepro.corpus.gather import Clip, Corpus, check_labels, survey
from genrepro.corpus.layout import canonical
from tools import figures

PICTURE = Path("corpus.png")
MOST_LINES = 10  # of files that share a remark, a reason or a layout


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.corpus",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "corpus", metavar="PATH", help="as data.corpus: a folder, or one of corpora/"
    )
    parser.add_argument(
        "picture", nargs="?", type=Path, default=PICTURE, help=f"a PNG file; default: {PICTURE}"
    )
    args = parser.parse_args()
    data = params.load().data
    if Path(args.corpus).resolve() != Path(data.corpus).expanduser().resolve():
        data = data.model_copy(update={"corpus": args.corpus, "corrections": None})
    with tempfile.TemporaryDirectory() as folder:
        corpus = survey(data, Path(folder) / "raw", links=True)
        print(description(corpus))
        if corpus.clips:
            figures.use_style()
            with atomic_output(args.picture) as draft:
                figures.save(picture(corpus), draft)
            print(f"\npicture: {args.picture}")
    check_labels(corpus, Path(args.corpus))


def picture(corpus: Corpus) -> figures.Figure:
    counts = Counter(clip.item.label for clip in corpus.clips)
    clips = {label: counts[label] for label in {*counts, *corpus.lost}}
    return figures.corpus(clips, corpus.lost, [clip.inspection.seconds for clip in corpus.clips])


def description(corpus: Corpus) -> str:
    """All that is known about a corpus, as text with tables."""
    clips, found = corpus.clips, [clip.inspection for clip in corpus.clips]
    minutes = sum(each.seconds for each in found) / 60
    labels = {clip.item.label for clip in clips}
    lines = [
        f"{corpus.source['title'] or corpus.source['name']}: {_number(len(clips), 'clip')} of "
        f"{_number(len(labels), 'label')}, {minutes:.1f} minutes; "
        f"{_number(len(corpus.skipped), 'file')} skipped",
    ]
    if clips:
        about = [
            *(["layout", words] for words in _layouts(clips)),
            ["rates", _counted(f"{each.sample_rate} Hz" for each in found)],
            ["channels", _counted(str(each.channels) for each in found)],
            ["groups", _groups(clips)],
            ["splits", _counted(clip.facts.get("part") or "none given" for clip in clips)],
        ]
        lines += ["", *_aligned(about), "", *_by_label(corpus)]
    cut = {c.item.source: c.inspection.cut_short for c in clips if c.inspection.cut_short}
    remarks = {c.item.source: c.inspection.remark for c in clips if c.inspection.remark}
    for title, files in (("skipped", corpus.skipped), ("cut short", cut), ("remarks", remarks)):
        if files:
            lines += ["", f"{title}: {_number(len(files), 'file')}", *_by_reason(files)]
    if corpus.others:
        others = ", ".join(f"{count} {ending}" for ending, count in corpus.others.items())
        lines += ["", f"not audio, by ending: {others}"]
    lines += ["", *(f"warning: {each}" for each in corpus.warnings)] if corpus.warnings else []
    return "\n".join(lines)


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


def _layouts(clips: Sequence[Clip]) -> list[str]:
    """The patterns of the clips' paths, most common first, with their number and an example."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for clip in clips:
        found[_pattern(clip)].append(clip.item.source)
    ranked = sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0]))[:MOST_LINES]
    return [
        f"{pattern} ({_number(len(names), 'clip')}, e.g. {names[0]})" for pattern, names in ranked
    ]


def _pattern(clip: Clip) -> str:
    meaning = {clip.facts.get("group"): "<group>", clip.item.label: "<label>"}
    split = clip.facts.get("part")
    *folders, name = PurePosixPath(clip.item.source).parts
    kinds = [
        meaning.get(folder) or ("<split>" if split and canonical(folder) == split else folder)
        for folder in folders
    ]
    row = re.fullmatch(r"(.*) row \d+", name)  # of a parquet file
    return "/".join([*kinds, f"{row[1]} row <n>" if row else "<clip>"])


def _by_label(corpus: Corpus) -> list[str]:
    lengths: defaultdict[str, list[float]] = defaultdict(list)
    groups: defaultdict[str, set[str]] = defaultdict(set)
    for clip in corpus.clips:
        lengths[clip.item.label].append(clip.inspection.seconds)
        if group := clip.facts.get("group"):
            groups[clip.item.label].add(group)
    rows = [["label", "clips", "skipped", "groups", "shortest", "median", "longest", "minutes"]]
    for label in sorted({*lengths, *corpus.lost}):
        seconds = lengths[label]
        about = (len(seconds), corpus.lost.get(label, 0), len(groups[label]))
        shape = [f"{each(seconds):.2f} s" if seconds else "–" for each in (min, median, max)]
        rows.append([label, *map(str, about), *shape, f"{sum(seconds) / 60:.1f}"])
    return _aligned(rows)


def _by_reason(files: dict[str, str]) -> list[str]:
    """How many files share a reason, numbers aside, and the first of them."""
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for name, reason in files.items():
        kinds[re.sub(r"\d+(\.\d+)?", "#", reason)].append(name)
    ranked = sorted(kinds.values(), key=lambda names: (-len(names), names))[:MOST_LINES]
    return _aligned(
        [["", str(len(names)), files[names[0]], f"e.g. {names[0]}"] for names in ranked]
    )


def _groups(clips: Sequence[Clip]) -> str:
    known = [clip.facts["group"] for clip in clips if clip.facts.get("group")]
    if not known:
        return "none known: data.name_pattern or data.facts can tell them"
    return f"{len(set(known))}, of {_number(len(known), 'clip')}"


def _counted(values: Iterable[str]) -> str:
    counts = Counter(values).most_common()
    return ", ".join(f"{value} ({_number(count, 'clip')})" for value, count in counts)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths)] for row in rows)
    return ["  ".join(row).rstrip() for row in padded]


if __name__ == "__main__":
    run(main)
