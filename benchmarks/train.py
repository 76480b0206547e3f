"""A training step of DistilHuBERT's shape on a CPU: the course's, ours, and what options give.

python -m benchmarks.train
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import course, ground
from benchmarks.pairs import clock, options, per, record, rounds, row, threads
from benchmarks.steps import classifier, course_steps, encoded_here, our_steps
from genrepro.params import load

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
    parser = options(__doc__, clips=2)
    parser.add_argument("--batch", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--narrow", action="store_true", help="fewer channels, for a test")
    args = parser.parse_args()
    threads(args)
    config = ground.narrow() if args.narrow else ground.distilhubert()
    with ground.workplace(args.clips, args.seconds) as paths:
        extractor, segments = ground.extractor(), encoded_here()
        lists = course.encode(paths, extractor, Path("course.arrow"))
        common = {"device": "cpu", "batch_size": args.batch, "effective_batch_size": args.batch}
        train = load().train.model_copy(update=common | {"precision": "none"})

        def ours(chosen: dict[str, str]) -> dict[str, float]:
            option = train.model_copy(update=chosen)
            return our_steps(classifier(config, option.freeze), segments, option, args.steps)

        ways = {
            "course": lambda: course_steps(
                classifier(config), lists, extractor, args.batch, args.steps
            )
        }
        ways |= {name: lambda chosen=chosen: ours(chosen) for name, chosen in OPTIONS.items()}
        figures = rounds(ways, args.pairs)
    key = clock(args)
    a_step = ("course", per(figures["course"], key))
    rows = [
        row(
            f"training step, DistilHuBERT's shape, {args.batch} × {args.seconds:g} s, {name}",
            "s",
            a_step,
            ("here", per(figures[name], key)),
        )
        for name in OPTIONS
    ]
    setting = {"seconds": args.seconds, "batch": args.batch, "threads": args.threads}
    record("train", args.results, setting | {"clock": key}, rows)


if __name__ == "__main__":
    main()
