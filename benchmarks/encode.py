"""Encoding, by one process with one thread: seconds of CPU and megabytes a clip.

python -m benchmarks.encode
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks import course, ground
from benchmarks.pairs import options, per, record, rounds, row, timed
from genrepro.core.params import load
from stages import encode


def main() -> None:
    args = options(__doc__, clips=16).parse_args()
    with ground.workplace(args.clips, args.seconds) as paths, _one_core():
        cache = Path("course.arrow")

        def course_way() -> dict[str, float]:
            cache.unlink(missing_ok=True)
            taken = timed(lambda: course.encode(paths, ground.extractor(), cache))
            return taken | {"bytes": cache.stat().st_size}

        def our_way() -> dict[str, float]:
            shutil.rmtree(paths.ENCODED, ignore_errors=True)
            with contextlib.redirect_stdout(io.StringIO()):
                taken = timed(lambda: encode.main(load()))
            return taken | {"bytes": sum(f.stat().st_size for f in paths.ENCODED.iterdir())}

        figures = rounds({"course": course_way, "ours": our_way}, args.pairs)
    a, b = figures["course"], figures["ours"]
    length = f"a {args.seconds:g} s clip"
    rows = [
        row(f"encode, CPU {length}", "s", *_both(a, b, "cpu", args.clips)),
        row(f"encode, disk {length}", "MB", *_both(a, b, "bytes", args.clips * 1e6)),
    ]
    record("encode", args.results, {"clips": args.clips, "seconds": args.seconds}, rows)


def _both(a: list[dict], b: list[dict], key: str, count: float):
    return ("course", per(a, key, count)), ("here", per(b, key, count))


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """GENREPRO_WORKERS=1, as the course's num_proc=1."""
    os.environ["GENREPRO_WORKERS"] = "1"
    try:
        yield
    finally:
        del os.environ["GENREPRO_WORKERS"]


if __name__ == "__main__":
    main()
