"""A training step of DistilHuBERT's shape on a CPU: the course's, ours, and what options give.

Each figure is a process of its own, for what one way did with the memory would help another.

python -m benchmarks.train
"""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets import Dataset

from benchmarks import course, ground
from benchmarks.pairs import (
    against_first,
    alone,
    clock,
    options,
    peak_memory,
    record,
    rounds,
    threads,
)
from benchmarks.read import training_part
from benchmarks.steps import classifier, course_steps, encoded_here, our_steps
from genrepro.core.params import load
from genrepro.core.paths import ENCODED
from genrepro.encoding.store import Encoded
from genrepro.model.backbone import use_fast_kernels

LISTS = "lists"

OPTIONS = {
    "as the course": {},
    "train.freeze=convolutions": {"freeze": "convolutions"},
    "train.freeze=backbone": {"freeze": "backbone"},
    "train.precision=bf16": {"precision": "bf16"},
    "train.freeze=convolutions, train.precision=bf16": {
        "freeze": "convolutions",
        "precision": "bf16",
    },
}


def main() -> None:
    parser = options(__doc__, clips=5)
    parser.add_argument("--batch", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--narrow", action="store_true", help="fewer channels, for a test")
    args = parser.parse_args()
    threads(args)
    with ground.workplace(args.clips, args.seconds) as paths:
        encoded_here()
        lists = course.encode(paths, ground.extractor(), Path("course.arrow"))
        lists.save_to_disk(LISTS)
        ways = {"course": lambda: alone(_course_step, args)}
        ways |= {name: lambda name=name: alone(_our_step, name, args) for name in OPTIONS}
        figures = rounds(ways, args.pairs)
    key = clock(args)
    size = f"DistilHuBERT's shape, {args.batch} × {args.seconds:g} s"
    rows = against_first(figures, f"training step, {size}", "s", key)
    rows += against_first(figures, f"training, peak memory, {size}", "MB", "peak_memory_mb")
    setting = {"seconds": args.seconds, "batch": args.batch, "threads": args.threads}
    record("train", args.results, setting | {"clock": key}, rows)


def _course_step(args: argparse.Namespace) -> dict[str, float]:
    threads(args)
    lists = Dataset.load_from_disk(LISTS)
    model = classifier(ground.shape(args.narrow))
    step = course_steps(model, lists, ground.extractor(), args.batch, args.steps)
    return step | {"peak_memory_mb": peak_memory()}


def _our_step(name: str, args: argparse.Namespace) -> dict[str, float]:
    threads(args)
    common = {"device": "cpu", "batch_size": args.batch, "effective_batch_size": args.batch}
    common |= {"precision": "none"} | OPTIONS[name]
    train = load().train.model_copy(update=common)
    segments = training_part(Encoded.open(ENCODED))
    model = use_fast_kernels(classifier(ground.shape(args.narrow), train.freeze))
    step = our_steps(model, segments, train, args.steps)
    return step | {"peak_memory_mb": peak_memory()}


if __name__ == "__main__":
    main()
