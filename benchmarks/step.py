"""A training step as the pipeline does it, against the same arithmetic on a batch in memory.

The model is DistilHuBERT with fewer channels, so that a step takes a third of a second and what it
costs to read the batch and to run Trainer can be seen beside it.

python -m benchmarks.step
"""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from benchmarks import ground
from benchmarks.pairs import clock, options, per, record, rounds, row, threads, timed
from benchmarks.steps import classifier, encoded_here, our_steps
from genrepro.core.params import load
from genrepro.model.backbone import use_fast_kernels
from genrepro.training.data import Collator, Segments


def main() -> None:
    parser = options(__doc__, clips=64)
    parser.add_argument("--batch", type=int, default=4, help="default: %(default)s")
    args = parser.parse_args()
    threads(args)
    steps = args.clips // args.batch
    with ground.workplace(args.clips, args.seconds):
        segments = encoded_here()
        device = {"device": "cpu", "batch_size": args.batch, "effective_batch_size": args.batch}
        train = load().train.model_copy(update=device | {"precision": "none"})
        model = use_fast_kernels(classifier(ground.narrow()))
        figures = rounds(
            {
                "pipeline": lambda: our_steps(model, segments, train, steps),
                "in memory": lambda: in_memory(model, segments, args.batch, steps),
            },
            args.pairs,
        )
    key = clock(args)
    rows = [
        row(
            f"a step on {args.batch} × {args.seconds:g} s against one on a batch in memory",
            "s",
            ("here", per(figures["pipeline"], key)),
            ("bare loop, batch in memory", per(figures["in memory"], key)),
        )
    ]
    setting = {"clips": args.clips, "seconds": args.seconds, "batch": args.batch}
    record("step", args.results, setting | {"threads": args.threads, "clock": key}, rows)


def in_memory(
    model: PreTrainedModel, segments: Segments, batch_size: int, steps: int
) -> dict[str, float]:
    """Seconds of a step without Trainer and without reading; the first one is left out."""
    batch = Collator(segments.encoded.input_name)([segments[row] for row in range(batch_size)])
    labels = batch.pop("labels")
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(**batch).logits, labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    step()
    taken = timed(lambda: [step() for _ in range(max(1, steps - 1))])
    return {name: seconds / max(1, steps - 1) for name, seconds in taken.items()}


if __name__ == "__main__":
    main()
