"""The course's recipe on a GPU: ten epochs of GTZAN's size, and what each option does.

The clips are generated and the model has DistilHuBERT's shape. Measured are
- the whole train stage, in a process of its own: imports, validation and checkpoints included;
- the train stage for a few steps with one option changed, for each option;
- the evaluate stage;
- the course's recipe (fp16, Python lists, 🤗 Trainer) for a few steps, scaled to all of them
  without validation and checkpoints.

The GPU waits for data from the end of a step's work until its next batch is on the GPU; CUDA events
before and after the batch is asked for measure that.

python -m benchmarks.gpu
"""

from __future__ import annotations

import argparse
import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    AutoModelForAudioClassification,
    HubertModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
)

from benchmarks import course, setup
from benchmarks.table import machine, record, row
from genrepro.core import paths
from genrepro.core.files import remove
from genrepro.core.params import load
from genrepro.core.stage import log
from genrepro.training.data import Prefetcher
from stages import encode, evaluate, train

WARM_UP = 5  # steps in which memory is allocated and code compiled
PROFILED = 3  # steps after these
PRELOAD = ("benchmarks.course", "stages.train")


def _compile_convolutions(trainer: Trainer) -> None:
    trainer.model.base_model.feature_extractor.compile(dynamic=False)


def _collate_in_turn(trainer: Trainer) -> None:
    """Without the thread that loads the next batch while the GPU computes."""
    if isinstance(trainer.data_collator, Prefetcher):
        trainer.data_collator = trainer.data_collator.collate


@dataclass(frozen=True)
class Lever:
    """One change to the train stage: of parameters, or of the Trainer before it starts."""

    params: dict[str, object] = field(default_factory=dict)
    change: Callable[[Trainer], None] = lambda trainer: None


LEVERS = {
    "params.yaml": Lever(),
    "fast_kernels=false": Lever({"fast_kernels": False}),
    "fast_kernels=false, convolutions compiled": Lever(
        {"fast_kernels": False}, _compile_convolutions
    ),
    "without prefetching": Lever(change=_collate_in_turn),
    "freeze=convolutions": Lever({"freeze": "convolutions"}),
    "gradient_checkpointing=true": Lever({"gradient_checkpointing": True}),
    "batch_size=2": Lever({"batch_size": 2}),
    "precision=fp16": Lever({"precision": "fp16"}),
    "precision=none": Lever({"precision": "none"}),
    "deterministic=false": Lever({"deterministic": False}),
}


class Watch(TrainerCallback):
    """Records when each batch is asked for and ready, and when epochs begin and end.

    Args:
        steps: stop after so many; None: train to the end.
        profile: where to write which kernels take the GPU's time.
    """

    def __init__(self, steps: int | None = None, profile: Path | None = None) -> None:
        self.steps, self.profile = steps, profile
        self.started, self.first_batch, self.gpu = time.perf_counter(), 0.0, False
        self.epochs: list[list[tuple]] = []  # for each batch, marks before and after
        self.ends: list = []

    def mark(self) -> object:
        if not self.gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.gpu = args.device.type == "cuda"
        self.first_batch = self.first_batch or time.perf_counter()
        self.epochs.append([])

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.steps
        if self.profile and state.global_step == WARM_UP:
            self.profiler = torch.profiler.profile()
            self.profiler.start()
        if self.profile and state.global_step == WARM_UP + PROFILED:
            self.profiler.stop()
            kernels = self.profiler.key_averages().table("self_device_time_total", row_limit=50)
            self.profile.parent.mkdir(parents=True, exist_ok=True)
            self.profile.write_text(kernels, encoding="utf-8")
        return control

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        self.ends.append(self.mark())

    def figures(self) -> dict[str, float]:
        """Seconds of the first step, of a later one and of all, until the first batch, and the
        share of all steps in which the next batch was waited for."""
        if self.gpu:
            torch.cuda.synchronize()
        starts = [before for before, _ in self.epochs[-1]]
        skipped = min(WARM_UP + PROFILED * bool(self.profile), len(starts) // 2)
        second = self.epochs[0][1][0] if len(self.epochs[0]) > 1 else self.ends[0]
        steps = sum(self._seconds(epoch[0][0], end) for epoch, end in zip(self.epochs, self.ends))
        waits = sum(self._seconds(*marks) for epoch in self.epochs for marks in epoch)
        return {
            "first_step": self._seconds(self.epochs[0][0][0], second),
            "step": self._seconds(starts[skipped], self.ends[-1]) / (len(starts) - skipped),
            "steps": steps,
            "start": self.first_batch - self.started,
            "waiting": waits / steps,
        }

    def _seconds(self, before, after) -> float:
        return before.elapsed_time(after) / 1000 if self.gpu else after - before


@contextlib.contextmanager
def watching(watch: Watch, change: Callable[[Trainer], None]) -> Iterator[None]:
    """Let `watch` see each Trainer that trains in this block, after `change` has been made."""
    train, get_batches = Trainer.train, Trainer.get_batch_samples

    def watched_train(trainer: Trainer, *args, **kwargs):
        change(trainer)
        trainer.add_callback(watch)
        return train(trainer, *args, **kwargs)

    def watched_batches(trainer: Trainer, *args, **kwargs):
        before = watch.mark()
        batches = get_batches(trainer, *args, **kwargs)
        watch.epochs[-1].append((before, watch.mark()))
        return batches

    Trainer.train, Trainer.get_batch_samples = watched_train, watched_batches
    try:
        yield
    finally:
        Trainer.train, Trainer.get_batch_samples = train, get_batches


def train_stage(
    args: argparse.Namespace, name: str, epochs: int, steps: int | None = None
) -> dict[str, float]:
    """The train stage with one lever: the watch's figures, seconds in all and peak memory."""
    lever = LEVERS[name]
    sizes: dict[str, object] = {
        "batch_size": args.batch,
        "effective_batch_size": args.batch,
        "epochs": epochs,
    }
    params = setup.set_params(train={"device": args.device} | sizes | lever.params)
    remove(paths.FINETUNED)
    remove(paths.UNFINISHED)
    listed = steps and name in args.profile
    profile = args.results / f"profile-{_slug(name)}.txt" if listed else None
    watch = Watch(steps, profile)
    with watching(watch, lever.change):
        seconds = setup.timed(lambda: train.main(params))
    return watch.figures() | seconds | _memory(args.device)


def course_steps(
    args: argparse.Namespace, encoded: Dataset, batch_size: int, steps: int
) -> dict[str, float]:
    """The watch's figures for so many of the course's steps, and peak memory."""
    torch.manual_seed(0)
    model = AutoModelForAudioClassification.from_config(setup.shape(args.narrow))
    gpu, watch = args.device == "cuda", Watch(steps)
    trainer = Trainer(
        model,
        course.arguments(Path("course"), batch_size, gpu=gpu),
        train_dataset=encoded,
        processing_class=setup.extractor(),
    )
    trainer.remove_callback(PrinterCallback)
    with watching(watch, lambda trainer: None):
        trainer.train()
    return watch.figures() | _memory(args.device)


def _memory(device: str) -> dict[str, float]:
    """Peak memory in MB: of the GPU where there is one, else of this process."""
    host = setup.peak_memory()
    if device == "cpu":
        return {"memory": host}
    allocated = torch.cuda.max_memory_allocated() / 1e6
    reserved = torch.cuda.max_memory_reserved() / 1e6
    return {"memory": allocated, "reserved_memory": reserved, "host_memory": host}


def _slug(name: str) -> str:
    return "-".join(re.findall("[a-z0-9]+", name.lower()))


def _lever(args: argparse.Namespace, clips: list[Path], name: str) -> dict[str, float]:
    setup.write_split(clips, args.clips, 1)  # an epoch is not measured, so neither is validation
    return train_stage(args, name, 1, args.steps)


def _encode() -> dict[str, float]:
    return setup.timed(lambda: encode.main(load()))


def _course(args: argparse.Namespace, clips: list[Path]) -> dict[str, float]:
    some = clips[: args.batch * args.steps]
    encoded = course.encode(some, setup.extractor(), Path("course.arrow"))
    return course_steps(args, encoded, args.batch, args.steps)


def _evaluate(args: argparse.Namespace) -> dict[str, float]:
    return setup.timed(lambda: evaluate.main(load())) | _memory(args.device)


def main() -> None:
    parser = setup.options(__doc__, clips=899)
    parser.add_argument(
        "--held-out",
        type=int,
        default=100,
        help="clips for each of validation and test; default: %(default)s",
    )
    parser.add_argument("--batch", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=10, help="default: %(default)s")
    parser.add_argument(
        "--steps", type=int, default=24, help="for each option; default: %(default)s"
    )
    parser.add_argument(
        "--full",
        choices=LEVERS,
        default="params.yaml",
        metavar="X",
        help="option with which to run all epochs; default: %(default)s",
    )
    parser.add_argument(
        "--levers",
        nargs="*",
        choices=LEVERS,
        default=list(LEVERS),
        metavar="X",
        help=f"what to try for --steps steps; default: all of {', '.join(LEVERS)}",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=600,
        help="seconds; what does not fit is left out; default: %(default)s",
    )
    parser.add_argument(
        "--profile",
        nargs="*",
        choices=LEVERS,
        default=[],
        metavar="X",
        help="options whose slowest kernels to list in <results>/profile-<option>.txt",
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try it")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU; for a CPU there is `python -m benchmarks.cpu`.")
    measure(args, deadline=time.monotonic() + args.budget)


def measure(args: argparse.Namespace, deadline: float) -> None:
    """Measure what fits before the deadline, the most important first; record after each part."""
    where = torch.cuda.get_device_name() if args.device == "cuda" else machine()
    steps = -(-args.clips // args.batch)
    found: dict[str, dict] = {}
    setting = {name: getattr(args, name) for name in ("clips", "seconds", "batch", "epochs")}
    setting |= {"held_out": args.held_out, "parts": found, "levers": {}}

    def run(what: str, function: Callable, *arguments: object, limit=600.0, preload=()) -> dict:
        timeout = max(1, min(limit, deadline - time.monotonic()))
        try:
            figures = setup.timed_alone(function, *arguments, timeout=timeout, preload=preload)
            figures = {key: float(f"{value:.4g}") for key, value in figures.items()}
        except RuntimeError as error:
            figures = {"error": str(error)}
        if "step" in figures:
            figures["epoch"] = round(figures["step"] * steps, 2)
        log(f"{what}: {figures}")
        return figures

    def keep() -> None:
        rows = []
        ours, theirs = found[f"all epochs, {args.full}"], found.get("course", {})
        if "epoch" in ours and "epoch" in theirs:
            theirs["process"] = theirs["epoch"] * args.epochs
            figures = {"course": [theirs], args.full: [ours]}
            size = f"{args.clips} × {args.seconds:g} s"
            rows = [
                row(f"{args.epochs} epochs of {size}", "s", figures, "process", *figures),
                row(f"memory, batch {args.batch}", "MB", figures, "memory", *figures),
            ]
        record("gpu", args.results, setting, rows, where)

    with setup.workplace(args.clips + 2 * args.held_out, args.seconds) as clips:
        setup.write_split(clips, args.clips, args.held_out)
        HubertModel(setup.shape(args.narrow)).save_pretrained(paths.BACKBONE)
        found["encode"] = run("encode", _encode)
        name = f"all epochs, {args.full}"
        found[name] = run(name, train_stage, args, args.full, args.epochs)
        found["course"] = run("course", _course, args, clips)
        keep()
        found["evaluate"] = run("evaluate", _evaluate, args, limit=args.budget / 5)
        for name in args.levers:
            if time.monotonic() > deadline:
                log(f"{name}: no time left")
                continue
            lever = run(name, _lever, args, clips, name, preload=PRELOAD)
            setting["levers"][name] = lever
            keep()


if __name__ == "__main__":
    main()
