"""DistilHuBERT's shape as PyTorch, ONNX and 8-bit ONNX: real-time factor, and how far logits part.

python -m benchmarks.inference
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soxr

from benchmarks import ground
from benchmarks.pairs import against_first, clock, options, record, rounds, threads, timed
from benchmarks.steps import classifier
from genrepro.core.params import load
from genrepro.core.stage import log
from genrepro.encoding.extractor import adapt, extract_segments
from genrepro.export import onnx
from genrepro.model.inference import segment_logits


def main() -> None:
    parser = options(__doc__, clips=1)
    parser.add_argument("--parity", type=float, nargs="*", default=[5, 15, 30], metavar="SECONDS")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--most", type=float, default=240, help="seconds a batch; default: 240")
    parser.add_argument("--narrow", action="store_true", help="fewer channels, for a test")
    args = parser.parse_args()
    threads(args)
    model = classifier(ground.shape(args.narrow)).eval()
    with ground.workplace(1, 0.5):
        float32, int8 = Path("model.onnx"), Path("model_int8.onnx")
        onnx.export(model, segments(1, args.seconds)[0], float32)
        onnx.quantize(float32, int8)
        runs = {"ONNX": onnx.session(float32, args.threads)}
        runs["ONNX int8"] = onnx.session(int8, args.threads)
        clips = segments(args.clips, args.seconds)
        ways = {"PyTorch": lambda: timed(lambda: segment_logits(model, clips, 1))}
        for name, session in runs.items():
            ways[name] = lambda session=session: timed(lambda: each(session, clips))
        for way in ways.values():
            way()  # the first run of a length makes ready for the next
        figures = rounds(ways, args.pairs)
        parity = [
            _parity(model, runs, seconds, batch)
            for seconds in args.parity
            for batch in args.batches
            if seconds * batch <= args.most
        ]
    key, heard = clock(args), args.clips * args.seconds
    what = f"inference, real-time factor, DistilHuBERT's shape, {args.seconds:g} s"
    rows = against_first(figures, what, "", key, heard)
    setting = {"clips": args.clips, "seconds": args.seconds, "threads": args.threads}
    setting |= {"clock": key, "largest_logit_difference": parity}
    record("inference", args.results, setting, rows)


def segments(count: int, seconds: float) -> list[np.ndarray]:
    """Generated clips as the encode stage would leave them, float16 (samples,)."""
    extractor = adapt(ground.extractor(), load().encode, seconds)
    return [
        extract_segments(
            extractor, soxr.resample(ground.sound(seed, seconds), ground.RATE, 16_000)
        )[0]
        for seed in range(count)
    ]


def each(session: onnx.InferenceSession, clips: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([onnx.logits(session, clip[None]) for clip in clips])


def _parity(model, runs: dict, seconds: float, batch: int) -> dict[str, object]:
    clips = segments(batch, seconds)
    expected = segment_logits(model, clips, batch)
    found: dict[str, object] = {"seconds": seconds, "batch": batch}
    for name, session in runs.items():
        difference = np.abs(onnx.logits(session, np.stack(clips)) - expected).max()
        found[name] = float(f"{difference:.1e}")
    log(f"largest logit difference: {found}")
    return found


if __name__ == "__main__":
    main()
