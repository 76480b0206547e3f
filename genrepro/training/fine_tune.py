"""The course's recipe: accumulate to the effective batch, choose on validation, go on after a stop.

Checkpoints wait in a folder outside DVC (see `genrepro.resume`); the caller keeps the model.
"""

from __future__ import annotations

import json
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

from genrepro.core import processes
from genrepro.core.errors import PipelineError
from genrepro.core.params import Train
from genrepro.core.stage import log
from genrepro.model.device import (
    PRECISIONS,
    choose_device,
    choose_precision,
    explain_out_of_memory,
    make_deterministic,
)
from genrepro.training.callbacks import Curves, RunningLoss, StopOnSignal, Stopped
from genrepro.training.data import Collator, Segments
from genrepro.training.trainer import ClipTrainer


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
    if processes.rank():  # else all would draw the same dropout
        torch.manual_seed(seed + processes.rank())
    resumed = last_checkpoint(checkpoints)
    if resumed:
        log(f"going on from {resumed.name}")
    try:
        with explain_out_of_memory(train):
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        trainer.accelerator.wait_for_everyone()  # before rank 0 removes what another reads
        trainer.accelerator.end_training()
    except Stopped:
        if processes.rank():
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
        gradient_accumulation_steps=accumulation_steps(train, processes.world()),
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


def _outcome(trainer: Trainer, keep: str) -> Outcome:
    epochs = [logs for logs in trainer.state.log_history if "eval_selection" in logs]
    kept = epochs[-1] if keep == "last" else max(epochs, key=lambda logs: logs["eval_selection"])
    return Outcome("epoch", round(kept["epoch"]), kept["eval_accuracy"], kept["eval_loss"])
