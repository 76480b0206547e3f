"""The course's recipe beside this pipeline on a CPU, step by step.

- encode: seconds of CPU and megabytes per clip, with one process and one thread
- read: an epoch's batches without the model, with one thread
- train: a training step of DistilHuBERT's shape
- infer: the 8-bit ONNX file against PyTorch

python -m benchmarks.cpu
"""

from __future__ import annotations

import argparse
import functools
import os
from pathlib import Path

import numpy as np
import soxr
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import AutoModelForAudioClassification, HubertModel

from benchmarks import course, setup
from benchmarks.gpu import course_steps, train_stage
from benchmarks.table import record, rounds, row
from genrepro.core import paths
from genrepro.core.files import remove
from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, extract_segments
from genrepro.encoding.parts import read_parts
from genrepro.encoding.store import Encoded
from genrepro.export import onnx
from genrepro.model.inference import segment_logits
from genrepro.training.data import Collator, Segments, Shuffled
from stages import encode

LISTS = Path("lists")
FROZEN = "freeze=convolutions"
EPOCHS = 20  # that the pipeline reads: one is too short to time


def main() -> None:
    parser = setup.options(__doc__, clips=128)  # fewer would time the start of each side
    parser.add_argument("--steps", type=int, default=5, help="to train; default: %(default)s")
    parser.add_argument("--batch", type=int, default=1, help="to train; default: %(default)s")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS), metavar="X")
    parser.set_defaults(device="cpu", profile=[])
    args = parser.parse_args()
    setup.set_threads(args)
    os.environ["GENREPRO_WORKERS"] = "1"  # one process encodes, as in the course
    rows = []
    with setup.workplace(args.clips + 1, args.seconds) as clips:
        setup.write_split(clips, args.clips, 1)
        HubertModel(setup.shape(args.narrow)).save_pretrained(paths.BACKBONE)
        setup.timed(lambda: encode.main(load()))
        for name in args.only:
            rows += PARTS[name](args, clips)
    setting = {name: getattr(args, name) for name in ("clips", "seconds", "threads", "batch")}
    record("cpu", args.results, setting, rows)


def _encode(args: argparse.Namespace, clips: list[Path]) -> list[dict]:
    cache = Path("course.arrow")

    def theirs() -> dict[str, float]:
        cache.unlink(missing_ok=True)
        taken = setup.timed(lambda: course.encode(clips, setup.extractor(), cache))
        return taken | {"bytes": cache.stat().st_size}

    def ours() -> dict[str, float]:
        remove(paths.ENCODED)
        taken = setup.timed(lambda: encode.main(load()))
        return taken | {"bytes": sum(file.stat().st_size for file in paths.ENCODED.iterdir())}

    figures = rounds({"course": theirs, "here": ours}, args.rounds)
    clip = f"{args.seconds:g} s clip"
    compare = functools.partial(row, figures=figures, before="course", here="here")
    return [
        compare(f"encode: CPU per {clip}", "s", key="cpu", per=len(clips)),
        compare(f"encode: disk per {clip}", "MB", key="bytes", per=len(clips) * 1e6),
    ]


def _read(args: argparse.Namespace, clips: list[Path]) -> list[dict]:
    torch.set_num_threads(1)
    extractor = setup.extractor()
    theirs = course.loader(course.encode(clips, extractor, Path("course.arrow")), extractor)
    corpus = Encoded.open(paths.ENCODED)
    segments = Segments(corpus, read_parts(paths.SPLIT, corpus)[0]["train"])
    ours = DataLoader(
        segments,
        course.BATCH_SIZE,
        sampler=Shuffled(len(segments), seed=0),
        collate_fn=Collator(corpus.input_name),
    )

    def epochs(loader: DataLoader, count: int, size: int) -> dict[str, float]:
        taken = setup.timed(lambda: [len(batch) for _ in range(count) for batch in loader])
        return {"cpu": taken["cpu"] / count / size}

    ways = {
        "course": lambda: epochs(theirs, 1, len(clips)),
        "here": lambda: epochs(ours, EPOCHS, len(segments)),
    }
    figures = rounds(ways, args.rounds)
    torch.set_num_threads(args.threads)
    what = f"read an epoch: CPU per {args.seconds:g} s clip"
    return [row(what, "s", figures, "cpu", "course", "here")]


def _train(args: argparse.Namespace, clips: list[Path]) -> list[dict]:
    some = clips[: args.steps * args.batch]
    course.encode(some, setup.extractor(), Path("course.arrow")).save_to_disk(LISTS)
    setup.write_split(clips, len(some), 1)
    ways = {"course": lambda: setup.alone(_course_steps, args)}
    for lever in ("params.yaml", FROZEN):
        ways[lever] = functools.partial(setup.alone, _our_steps, args, lever)
    figures = rounds(ways, args.rounds)
    what = f"train, {args.batch} × {args.seconds:g} s, {args.threads} threads"
    return [
        row(f"{what}: a step", "s", figures, "step", "course", "params.yaml"),
        row(f"{what}: a step, {FROZEN}", "s", figures, "step", "course", FROZEN),
    ]


def _course_steps(args: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(args.threads)
    return course_steps(args, Dataset.load_from_disk(LISTS), args.batch, args.steps)


def _our_steps(args: argparse.Namespace, lever: str) -> dict[str, float]:
    torch.set_num_threads(args.threads)
    return train_stage(args, lever, 1)


def _infer(args: argparse.Namespace, clips: list[Path]) -> list[dict]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AutoModelForAudioClassification.from_config(setup.shape(args.narrow)).eval()
    extractor = adapt(setup.extractor(), load().encode, args.seconds)
    wave = soxr.resample(setup.sound(0, args.seconds), setup.RATE, extractor.sampling_rate)
    segments = extract_segments(extractor, wave)
    float32, int8 = Path("model.onnx"), Path("model_int8.onnx")
    onnx.export(model, segments[0], float32)
    onnx.quantize(float32, int8)
    session = onnx.session(int8, 1)
    ways = {
        "PyTorch": lambda: setup.timed(lambda: segment_logits(model, segments, 1)),
        "8-bit ONNX": lambda: setup.timed(lambda: onnx.logits(session, np.stack(segments))),
    }
    for way in ways.values():
        way()  # the first run prepares for the next
    figures = rounds(ways, args.rounds)
    what = f"classify {args.seconds:g} s as 8-bit ONNX: CPU per second of audio, 1 thread"
    return [row(what, "s", figures, "cpu", "PyTorch", "8-bit ONNX", per=args.seconds)]


PARTS = {"encode": _encode, "read": _read, "train": _train, "infer": _infer}

if __name__ == "__main__":
    main()
