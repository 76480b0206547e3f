"""The course's recipe: accumulate to the effective batch, choose on validation, go on after a stop.

Checkpoints wait in a folder outside DVC (see `genrepro.resume`); the caller keeps the model.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from dvclive import Live
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from genrepro import ranks
from genrepro.callbacks import Curves, RunningLoss, StopOnSignal, Stopped
from genrepro.params import Train
from genrepro.runtime import PipelineError, say
from genrepro.trainer import ClipTrainer, Collator, Segments

PRECISIONS = {"fp16": {"fp16": True}, "bf16": {"bf16": True}, "none": {}}


@dataclass(frozen=True)
class Outcome:
    """What validation chose, the epoch or a probe's penalty, and the figures that it had there."""

    by: Literal["epoch", "penalty"]
    kept: float
    accuracy: float
    loss: float


def fine_tune(
    model: PreTrainedModel,
    segments: dict[str, Segments],
    train: Train,
    learning_rate: float,
    seed: int,
    checkpoints: Path,
    live: Live | None,
) -> Outcome:
    """Train `model` in place on the segments of "train"; leave it as after the epoch to keep.

    The best epoch is chosen on "validation". Goes on from the last whole checkpoint in
    `checkpoints`, if there is one.

    Args:
        live: where the learning curves go; None on all ranks but the first.

    Raises:
        PipelineError: the device is missing or out of memory, or training was told to stop.
    """
    stop, running = StopOnSignal(), RunningLoss()
    callbacks = [running, stop] if live is None else [running, Curves(live), stop]
    if train.early_stopping:
        callbacks.append(EarlyStoppingCallback(train.early_stopping))
    trainer = ClipTrainer(
        model=model,
        args=arguments(train, learning_rate, seed, checkpoints),
        train_dataset=segments["train"],
        eval_dataset=segments["validation"],
        validation=segments["validation"],
        label_smoothing=train.label_smoothing,
        data_collator=Collator(model.main_input_name),
        callbacks=callbacks,
    )
    running.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    if ranks.rank():  # else all would draw the same dropout
        torch.manual_seed(seed + ranks.rank())
    resumed = last_checkpoint(checkpoints)
    if resumed:
        say(f"going on from {resumed.name}")
    try:
        with room_on_the_gpu(train):
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        trainer.accelerator.wait_for_everyone()  # before rank 0 removes what another reads
        trainer.accelerator.end_training()
    except Stopped:
        if ranks.rank():
            sys.exit(1)  # rank 0 says it
        raise PipelineError(
            f"{stop.received} received; a checkpoint is kept, and the same command goes on from it."
        ) from None
    return _outcome(trainer, train.keep)


def arguments(
    train: Train, learning_rate: float, seed: int, checkpoints: Path
) -> TrainingArguments:
    """The recipe in Trainer's words."""
    device = choose_device(train)
    if train.deterministic and device == "cuda":  # a CPU repeats its sums anyway
        make_deterministic()
    args = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=train.epochs,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=train.batch_size,
        gradient_accumulation_steps=accumulation_steps(train, ranks.world()),
        learning_rate=learning_rate,
        warmup_steps=train.warmup,  # below 1, it is a share of all steps
        lr_scheduler_type="linear",
        weight_decay=train.weight_decay,
        activation_checkpointing=train.gradient_checkpointing,
        ddp_find_unused_parameters=True,  # HuBERT's mask, layers that are dropped
        use_cpu=device == "cpu",
        seed=seed,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=train.keep == "best",
        metric_for_best_model="selection",
        greater_is_better=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
        disable_tqdm=True,
        report_to="none",
        **PRECISIONS[choose_precision(train, device)],
    )
    args._n_gpu = min(args.n_gpu, 1)  # DataParallel would multiply the batch of the recipe
    return args


def accumulation_steps(train: Train, processes: int) -> int:
    """Batches that each of the processes takes for a step that learns from the effective batch.

    Raises:
        PipelineError: the effective batch cannot be shared out evenly.
    """
    together = train.batch_size * processes
    if train.effective_batch_size % together:
        raise PipelineError(
            f"{processes} processes with train.batch_size={train.batch_size} take {together} "
            f"segments at once, and train.effective_batch_size={train.effective_batch_size} is no "
            f"multiple of that; {_sharing(train, processes)}."
        )
    return train.effective_batch_size // together


def _sharing(train: Train, processes: int) -> str:
    """What to set instead: the largest batch that fits, or else a number of processes."""
    share, rest = divmod(train.effective_batch_size, processes)
    if rest:
        return f"start a number of processes that divides {train.effective_batch_size}"
    fits = max(size for size in range(1, train.batch_size + 1) if share % size == 0)
    return f"set train.batch_size={fits}"


def choose_device(train: Train) -> str:
    """Return "cuda" or "cpu", as `train.device` asks and the machine has.

    Raises:
        PipelineError: a GPU is asked for and none is there, or a launcher has started more
            processes on this machine than it has GPUs.
    """
    if train.device == "cuda" and not torch.cuda.is_available():
        raise PipelineError("train.device is cuda, but PyTorch sees no GPU; set it to auto or cpu.")
    device = "cuda" if train.device == "auto" and torch.cuda.is_available() else train.device
    if device == "cuda" and ranks.local_world() > torch.cuda.device_count():
        raise PipelineError(
            f"train.launcher starts {ranks.local_world()} processes on a machine with "
            f"{torch.cuda.device_count()} GPUs; start one for each GPU."
        )
    return "cpu" if device == "auto" else device


def choose_precision(train: Train, device: str) -> str:
    """Return "fp16", "bf16" or "none": what `train.precision` forces, else what the device has."""
    if train.precision != "auto":
        return train.precision
    if device == "cpu":
        return "none"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def make_deterministic() -> None:
    """Make a GPU add up in the same order each time.

    See https://pytorch.org/docs/stable/notes/randomness.html.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.utils.deterministic.fill_uninitialized_memory = False  # finds bugs, and costs time


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint. Trainer writes trainer_state.json last: it tells which are."""
    return next(_whole_checkpoints(folder), None)


def _whole_checkpoints(folder: Path) -> Iterator[Path]:
    found = folder.glob("checkpoint-*")
    for path in sorted(found, key=lambda path: int(path.name.split("-")[1]), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            continue
        yield path


@contextlib.contextmanager
def room_on_the_gpu(train: Train) -> Iterator[None]:
    """Say what to type where the block finds none.

    Raises:
        PipelineError: the GPU is out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise PipelineError(_with_less(train)) from None


def _with_less(train: Train) -> str:
    """Less at once, the same recipe."""
    if train.batch_size > 1:
        half = train.batch_size // 2
        return (
            f"the GPU is out of memory with train.batch_size={train.batch_size}; type `dvc exp run "
            f"-S train.batch_size={half}`: gradients are accumulated, so the recipe stays the same."
        )
    return (
        "the GPU is out of memory with one segment at a time; set train.gradient_checkpointing=true"
        ", train.freeze=convolutions or a shorter encode.segment_seconds."
    )


def _outcome(trainer: Trainer, keep: str) -> Outcome:
    epochs = [logs for logs in trainer.state.log_history if "eval_selection" in logs]
    kept = epochs[-1] if keep == "last" else max(epochs, key=lambda logs: logs["eval_selection"])
    return Outcome("epoch", round(kept["epoch"]), kept["eval_accuracy"], kept["eval_loss"])
