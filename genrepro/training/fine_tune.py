"""The course's recipe: accumulate to the effective batch, choose on validation, resume if stopped.

Checkpoints are kept in a folder outside DVC (see `genrepro.core.resume`).
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
    set_seed,
)
from transformers import SequenceFeatureExtractor as Extractor

from genrepro.core import processes, reporting
from genrepro.core.errors import PipelineError
from genrepro.core.params import Train
from genrepro.core.stage import log
from genrepro.encoding.parts import is_unequal
from genrepro.model import device
from genrepro.training import augment
from genrepro.training.callbacks import Checkpoints, Curves, ProgressBar, Stopped
from genrepro.training.data import Collator, Segments
from genrepro.training.trainer import ClipTrainer


@dataclass(frozen=True)
class Outcome:
    """What validation chose, the epoch or a probe's penalty, and its figures there.

    Attributes:
        curve: (epoch or penalty, training loss, validation loss, accuracy), of all that were tried.
    """

    by: Literal["epoch", "penalty"]
    kept: float
    accuracy: float
    macro_f1: float
    loss: float
    curve: list[tuple[float, float, float, float]]


def fine_tune(
    model: PreTrainedModel,
    extractor: Extractor,
    segments: dict[str, Segments],
    train: Train,
    learning_rate: float,
    seed: int,
    checkpoints: Path,
    live: Live | None,
) -> Outcome:
    """Train `model` in place on the segments of "train", and leave it as after the epoch to keep.

    The best epoch is chosen on "validation". Resumes from the last complete checkpoint in
    `checkpoints`, if there is one.

    Args:
        extractor: the feature extractor that made the segments, for what changes them.
        live: where the learning curves go; None on all ranks but the first.

    Raises:
        PipelineError: the segments cannot be changed as `train.augment` asks, the device is missing
            or out of memory, training diverged, or it was told to stop.
    """
    with device.explain_out_of_memory(device.less_memory(train)):
        saving = Checkpoints()
        callbacks = [ProgressBar(), saving]
        if live is not None:
            parts = (each.part for each in segments.values())
            callbacks.insert(1, Curves(live, train.select_by == "macro_f1" or is_unequal(parts)))
        change = augment.augmenter(extractor, model, segments["train"], train, seed)
        if train.early_stopping:
            callbacks.append(EarlyStoppingCallback(train.early_stopping))
        trainer = ClipTrainer(
            model=model,
            args=arguments(train, learning_rate, seed, checkpoints),
            train_dataset=segments["train"],
            eval_dataset=segments["validation"],
            recipe=train,
            data_collator=_collator(model, segments["train"], device.choose_device(train), change),
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)
        if processes.rank():  # else all processes would draw the same dropout and SpecAugment masks
            set_seed(seed + processes.rank())
        resumed = last_checkpoint(checkpoints)
        if resumed:
            log(f"resuming from {resumed.name}")
        try:
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        except Stopped:
            if processes.rank():
                sys.exit(1)  # rank 0 reports it
            raise PipelineError(
                f"{saving.received} received; a checkpoint was saved, and the same command resumes "
                "from it."
            ) from None
        if train.keep == "best":
            trainer.load_best()
        trainer.accelerator.wait_for_everyone()  # before rank 0 removes what another reads
        trainer.accelerator.end_training()
        return _outcome(trainer, train.keep)


def _collator(
    model: PreTrainedModel, segments: Segments, where: str, change: augment.Augmenter | None
) -> Collator:
    """Models that normalise over time, as "group" does, never get padded waveforms."""
    normalises = getattr(model.config, "feat_extract_norm", None) == "group"
    half = where == "cuda" and model.dtype == torch.float32  # Prefetcher makes them float32 there
    dtype = torch.float16 if half else model.dtype
    pad = not normalises or segments.lengths is not None
    return Collator(model.main_input_name, pad, dtype, change)


def arguments(
    train: Train, learning_rate: float, seed: int, checkpoints: Path
) -> TrainingArguments:
    """The recipe in Trainer's terms."""
    where = device.choose_device(train)
    precision = device.choose_precision(train, where)
    checkpoints_activations = train.gradient_checkpointing and train.freeze != "backbone"
    checkpointing = {"activation_checkpointing": True} if checkpoints_activations else {}
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
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        ddp_find_unused_parameters=True,  # HuBERT's mask, layers that are dropped
        use_cpu=where == "cpu",
        seed=seed,
        eval_strategy="epoch",
        logging_strategy="epoch",
        logging_nan_inf_filter=False,  # it would wait for the GPU at every step
        save_strategy="no",  # Checkpoints decides
        save_total_limit=1,
        restore_callback_states_from_checkpoint=True,  # how long EarlyStopping has been patient
        metric_for_best_model="selection",
        greater_is_better=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,  # Prefetcher does it
        disable_tqdm=True,
        **reporting.arguments(),
        **checkpointing,
    )
    args._n_gpu = min(args.n_gpu, 1)  # DataParallel would multiply the batch of the recipe
    return args


def accumulation_steps(train: Train, processes: int) -> int:
    """Batches that each of the processes computes for one step on the effective batch.

    Raises:
        PipelineError: the effective batch cannot be shared out evenly.
    """
    together = train.batch_size * processes
    if train.effective_batch_size % together:
        raise PipelineError(
            f"{processes} processes with train.batch_size={train.batch_size} compute {together} "
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
    """The newest complete checkpoint: Trainer writes trainer_state.json last."""
    return next(_complete_checkpoints(folder), None)


def _complete_checkpoints(folder: Path) -> Iterator[Path]:
    found = folder.glob("checkpoint-*")
    for path in sorted(found, key=lambda path: int(path.name.split("-")[1]), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            continue
        yield path


def _outcome(trainer: Trainer, keep: str) -> Outcome:
    history = trainer.state.log_history
    epochs = [logs for logs in history if "eval_selection" in logs]
    losses = {round(logs["epoch"]): logs["loss"] for logs in history if "loss" in logs}
    curve = [
        (at, losses[at], logs["eval_loss"], logs["eval_accuracy"])
        for at, logs in ((round(logs["epoch"]), logs) for logs in epochs)
    ]
    kept = epochs[-1] if keep == "last" else max(epochs, key=lambda logs: logs["eval_selection"])
    figures = {name: kept[f"eval_{name}"] for name in ("accuracy", "macro_f1", "loss")}
    return Outcome("epoch", round(kept["epoch"]), **figures, curve=curve)
