"""An epoch's batches without the model: seconds of CPU a clip.

python -m benchmarks.read
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks import course, ground
from benchmarks.pairs import options, per, record, rounds, row, timed
from genrepro.core.params import load
from genrepro.encoding.parts import Part
from genrepro.encoding.store import Encoded
from genrepro.training.data import Collator, Segments, Shuffled
from stages import encode

OUR_EPOCHS = 20  # one is too short for a clock


def main() -> None:
    args = options(__doc__, clips=32).parse_args()
    torch.set_num_threads(1)
    with ground.workplace(args.clips, args.seconds) as paths:
        extractor = ground.extractor()
        courses = course.loader(course.encode(paths, extractor, Path("course.arrow")), extractor)
        with contextlib.redirect_stdout(io.StringIO()):
            encode.main(load())
        segments = training_part(Encoded.open(paths.ENCODED))
        ours = DataLoader(
            segments,
            course.BATCH_SIZE,
            sampler=Shuffled(len(segments), seed=0),
            collate_fn=Collator(segments.encoded.input_name),
        )
        files = sorted(paths.ENCODED.glob("*.arrow"))
        ways = {
            "course": lambda: timed(lambda: _epochs(courses, 1)),
            "ours": lambda: timed(lambda: _epochs(ours, OUR_EPOCHS)),
            "disk cache": lambda: timed(lambda: _copies(files)),
        }
        figures = rounds(ways, args.pairs)
    course_each = per(figures["course"], "cpu", args.clips)
    our_each = per(figures["ours"], "cpu", args.clips * OUR_EPOCHS)
    disk_each = per(figures["disk cache"], "cpu", args.clips * OUR_EPOCHS)
    length = f"a {args.seconds:g} s clip"
    rows = [
        row(f"reading an epoch, CPU {length}", "s", ("course", course_each), ("here", our_each)),
        row(
            f"reading an epoch against copying its files' bytes, CPU {length}",
            "s",
            ("copying the bytes from the disk cache", disk_each),
            ("here", our_each),
        ),
    ]
    record("read", args.results, {"clips": args.clips, "seconds": args.seconds}, rows)


def training_part(encoded: Encoded) -> Segments:
    """All of an encoded corpus as a training part."""
    clips = sorted(set(encoded.clip))
    number = {clip: index for index, clip in enumerate(clips)}
    targets = [ground.LABELS.index(clip.split(".")[0]) for clip in clips]
    part = Part(clips, targets, list(range(len(encoded))), [number[clip] for clip in encoded.clip])
    return Segments(encoded, part)


def _epochs(loader: DataLoader, count: int) -> None:
    for _ in range(count):
        for batch in loader:
            assert batch["labels"].ndim == 1


def _copies(files: list[Path]) -> None:
    """As many bytes as the epochs read, by the system's own copying: the disk cache's speed."""
    target = np.empty(max(file.stat().st_size for file in files), np.uint8)
    for _ in range(OUR_EPOCHS):
        for path in files:
            with path.open("rb", buffering=0) as file:
                file.readinto(target)


if __name__ == "__main__":
    main()
