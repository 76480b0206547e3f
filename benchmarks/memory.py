"""Peak memory of encoding, and of reading what was encoded, as the corpus grows.

Each figure is a process of its own; all take one core, and clips that are short so that many fit.

python -m benchmarks.memory
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks import ground
from benchmarks.pairs import options, peak_memory, record, row
from genrepro.core.params import load
from genrepro.core.stage import log


def main() -> None:
    parser = options(__doc__, clips=1000, seconds=3.0, pairs=1)
    parser.add_argument("--few", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--many", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--way", choices=WAYS, help="measure this alone and print it, in MB")
    args = parser.parse_args()
    if args.way:
        with ground.workplace(args.clips, args.seconds) as paths:
            print(WAYS[args.way](paths))
        return

    def peaks(way: str, clips: int) -> tuple[str, list[float]]:
        where = "course" if way.startswith("course") else "here"
        return f"{where}, {clips:,} clips", [
            _child(way, clips, args.seconds) for _ in range(args.pairs)
        ]

    few, more = peaks("course", args.few), peaks("course", args.clips)
    our_few, our_more = peaks("encode", args.few), peaks("encode", args.clips)
    our_many = peaks("encode", args.many)
    rows = [
        row("encode, peak memory", "MB", few, our_few),
        row("encode, peak memory", "MB", more, our_more),
        row("encode, peak memory, 1 = flat", "MB", our_few, our_many),
        row(
            "reading an epoch, memory that is not the disk cache's, 1 = flat",
            "MB",
            peaks("read", args.few),
            peaks("read", args.many),
        ),
    ]
    record("memory", args.results, {"seconds": args.seconds}, rows)


def _child(way: str, clips: int, seconds: float) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", "--way", way]
    command += ["--clips", str(clips), "--seconds", str(seconds)]
    environment = ground.repository() | {"GENREPRO_WORKERS": "1"}
    done = subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE)
    peak = float(done.stdout.split()[-1])
    log(f"{way}, {clips} clips: {peak:.0f} MB")
    return peak


def _course(paths: list[Path]) -> float:
    from benchmarks import course  # each way imports what it needs, for imports take memory too

    course.encode(paths, ground.extractor(), Path("course.arrow"))
    return peak_memory()


def _encode(paths: list[Path]) -> float:
    from stages import encode

    with contextlib.redirect_stdout(io.StringIO()):
        encode.main(load())
    return peak_memory()


def _read(paths: list[Path]) -> float:
    """Memory after an epoch, in MB, without mapped files: those can be dropped at any time."""
    command = [sys.executable, "-m", "stages", "encode"]
    subprocess.run(command, env=os.environ, check=True, stdout=subprocess.DEVNULL)
    from torch.utils.data import DataLoader

    from benchmarks.read import training_part
    from genrepro.encoding.store import Encoded
    from genrepro.training.data import Collator

    segments = training_part(Encoded.open(Path("data/encoded")))
    for batch in DataLoader(segments, 8, collate_fn=Collator(segments.encoded.input_name)):
        assert len(batch["labels"])
    anonymous = re.search(r"RssAnon:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(anonymous[1]) * 1024 / 1e6


WAYS = {"course": _course, "encode": _encode, "read": _read}

if __name__ == "__main__":
    main()
