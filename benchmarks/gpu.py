"""The course's recipe on a GPU: its ten epochs, and the GPU memory that they take.

Ours is the whole train stage, which validates and saves after every epoch. The course's epochs are
so many of its steps (fp16, Python lists), in which it neither validates nor saves.

python -m benchmarks.gpu
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
from pathlib import Path

import torch
import yaml
from datasets import Dataset
from transformers import HubertModel

from benchmarks import course, ground
from benchmarks.pairs import against_first, alone, options, peak_memory, record, rounds, timed
from benchmarks.steps import classifier, course_steps, encoded_here
from genrepro.core import paths
from genrepro.core.files import remove
from genrepro.core.params import load
from stages import train

LISTS = "lists"
OPTIONS = {
    "as the course": {},
    "train.gradient_checkpointing=true": {"gradient_checkpointing": True},
    "train.freeze=convolutions": {"freeze": "convolutions"},
}


def main() -> None:
    parser = options(__doc__, clips=999)
    parser.add_argument("--batch", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=20, help="of the course; default: %(default)s")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: for a test")
    parser.add_argument("--narrow", action="store_true", help="fewer channels, for a test")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU; for a CPU there is `python -m benchmarks.train`.")
    with ground.workplace(args.clips, args.seconds) as paths:
        learnt = _split(paths)
        _write_backbone(args)
        encoded_here()
        some = paths[: args.batch * args.steps]
        course.encode(some, ground.extractor(), Path("course.arrow")).save_to_disk(LISTS)
        ways = {"course": lambda: alone(_course, args, learnt)}
        ways |= {name: lambda name=name: alone(_ours, name, args) for name in OPTIONS}
        figures = rounds(ways, args.pairs)
    gpu = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    size = f"{args.seconds:g} s, {gpu}"
    whole = f"{args.epochs} epochs of {learnt} × {size}"
    rows = against_first(figures, whole, "s", "wall")
    memory = f"training, peak memory, {args.batch} × {size}"
    rows += against_first(figures, memory, "MB", "peak_memory_mb")
    setting = {"clips": args.clips, "seconds": args.seconds, "batch": args.batch}
    record("gpu", args.results, setting | {"epochs": args.epochs, "steps": args.steps}, rows)


def _split(paths: list[Path]) -> int:
    """Write data/split.csv as the course splits: a tenth to look at; return how many are learnt."""
    learnt = len(paths) * 9 // 10
    with Path("data/split.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["clip", "label", "split"])
        for number, path in enumerate(paths):
            part = "train" if number < learnt else "validation"
            table.writerow([path.stem, path.parent.name, part])
    return learnt


def _write_backbone(args: argparse.Namespace) -> None:
    """DistilHuBERT's shape, as a pretrained backbone."""
    HubertModel(ground.shape(args.narrow)).save_pretrained("models/backbone")


def _course(args: argparse.Namespace, learnt: int) -> dict[str, float]:
    model = classifier(ground.shape(args.narrow))
    lists = Dataset.load_from_disk(LISTS)
    gpu = args.device == "cuda"
    step = course_steps(model, lists, ground.extractor(), args.batch, args.steps, gpu)
    steps = args.epochs * -(-learnt // args.batch)
    return {"wall": step["wall"] * steps, "peak_memory_mb": _peak(args.device)}


def _ours(name: str, args: argparse.Namespace) -> dict[str, float]:
    params = yaml.safe_load(ground.PARAMS.read_text(encoding="utf-8"))
    asked = {"batch_size": args.batch, "effective_batch_size": args.batch, "epochs": args.epochs}
    params["train"] |= asked | {"device": args.device} | OPTIONS[name]
    paths.PARAMS.write_text(yaml.safe_dump(params), encoding="utf-8")
    remove(paths.FINETUNED)
    with contextlib.redirect_stdout(io.StringIO()):
        taken = timed(lambda: train.main(load()))
    return {"wall": taken["wall"], "peak_memory_mb": _peak(args.device)}


def _peak(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else peak_memory()


if __name__ == "__main__":
    main()
