"""The course's recipe on 🤗 Trainer: accumulate to the batch, choose on validation, resume.

Checkpoints wait in a folder outside DVC (see `genrepro.resume`); the caller keeps the best one.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from dvclive import Live
from torch.nn import functional
from torch.utils.data import Dataset, Sampler
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from genrepro import backbone
from genrepro.encoded import Encoded, Part
from genrepro.metric import ClipAccuracy
from genrepro.params import Train
from genrepro.predict import segment_logits
from genrepro.runtime import PipelineError, say
from genrepro.scoring import average_segments

RUNNING = "running training loss"  # its key in trainer_state.json
PRECISIONS = {"fp16": {"fp16": True}, "bf16": {"bf16": True}, "none": {}}


class Segments(Dataset):
    """A part's segments with their targets, read from the memory map when asked for."""

    def __init__(self, encoded: Encoded, part: Part) -> None:
        self.encoded, self.part = encoded, part

    def __len__(self) -> int:
        return len(self.part.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.encoded[self.part.rows[index]], self.part.targets[self.part.clip_of[index]]


@dataclass(frozen=True)
class Collator:
    """Stack segments into one float32 batch, zero-padded along the only axis that may differ.

    Waveforms of unequal length also get an attention mask, as in the course; equal ones need none.
    """

    input_name: str

    def __call__(self, samples: list[tuple[np.ndarray, int]]) -> dict[str, torch.Tensor]:
        arrays = [features for features, _ in samples]
        shape = tuple(max(sizes) for sizes in zip(*(array.shape for array in arrays)))
        batch = np.zeros((len(arrays), *shape), dtype=np.float32)
        for row, array in zip(batch, arrays):
            row[tuple(slice(size) for size in array.shape)] = array  # the one copy: half to float
        targets = torch.tensor([target for _, target in samples])
        inputs = {self.input_name: torch.from_numpy(batch), "labels": targets}
        lengths = torch.tensor([array.shape[0] for array in arrays])
        if len(shape) == 1 and lengths.min() < shape[0]:
            inputs["attention_mask"] = (torch.arange(shape[0]) < lengths[:, None]).long()
        return inputs


class Shuffled(Sampler[int]):
    """An order of its own for each epoch, from the seed alone, so that it can be gone on with."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        return iter(random.permutation(self.size).tolist())


class ClipTrainer(Trainer):
    """Trainer that validates by clip: a clip's segments give one verdict, as in the test.

    An epoch's training loss is kept in the checkpoint too, so that an interrupted run's learning
    curve is the uninterrupted one's.
    """

    def __init__(self, *args, validation: Segments, label_smoothing: float, **kwargs) -> None:
        super().__init__(*args, compute_loss_func=self._loss, **kwargs)
        self.validation, self.label_smoothing = validation, label_smoothing
        self.accuracy = ClipAccuracy()
        self.epoch_loss, self.epoch_steps = 0.0, 0

    def _get_train_sampler(self, *args) -> Shuffled:
        return Shuffled(len(self.train_dataset), self.args.seed)

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self.epoch_loss = self.epoch_loss + loss.double()
        return loss

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs:
            logs["loss"] = float(self.epoch_loss) / self.epoch_steps
            self.epoch_loss, self.epoch_steps = 0.0, 0
        super().log(logs, *args, **kwargs)

    def _load_from_checkpoint(self, checkpoint: str, model: PreTrainedModel | None = None) -> None:
        """Through `from_pretrained`: some models are saved under other names than their own, which
        Trainer's own loading passes over without an error (transformers 5.23: AST's attention)."""
        target = self.accelerator.unwrap_model(model or self.model)
        target.load_state_dict(backbone.load(Path(checkpoint)).state_dict())

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _save_checkpoint(self, *args) -> None:
        running = {"loss": float(self.epoch_loss), "steps": self.epoch_steps}
        self.state.stateful_callbacks[RUNNING] = running
        super()._save_checkpoint(*args)

    def _loss(self, outputs, labels, num_items_in_batch=None) -> torch.Tensor:
        """Cross-entropy over the effective batch: accumulated micro-batches weigh by their size."""
        loss = functional.cross_entropy(
            outputs.logits.float(), labels, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return loss / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Accuracy and cross-entropy over the validation clips.

        `selection` is accuracy with ties broken by the lower loss: the added term stays below half
        of what one clip is worth.
        """
        segments = [self.validation[index][0] for index in range(len(self.validation))]
        with self.compute_loss_context_manager():
            logits = segment_logits(self.model, segments, self.args.per_device_eval_batch_size)
        part = self.validation.part
        logits = average_segments(logits, np.array(part.clip_of))
        targets = torch.tensor(part.targets)
        loss = functional.cross_entropy(torch.from_numpy(logits), targets).item()
        accuracy = self.accuracy.compute(
            predictions=logits.argmax(axis=1), references=part.targets
        )["accuracy"]
        selection = accuracy + np.exp(-loss) / (2 * len(part.targets))
        metrics = {"eval_accuracy": accuracy, "eval_loss": loss, "eval_selection": selection}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class Curves(TrainerCallback):
    """One DVCLive step an epoch, training and validation side by side (its own callback would
    advance at every log). A resumed run writes the earlier epochs again from the checkpoint."""

    def __init__(self, live: Live) -> None:
        self.live = live

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        for logs in state.log_history:
            self._write(logs)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self._write(logs | {"epoch": state.epoch})

    def _write(self, logs: dict[str, float]) -> None:
        epoch = round(logs["epoch"])
        if "loss" in logs:
            self._train_loss = logs["loss"]
            self.live.step = epoch
            self.live.log_metric("train/loss", logs["loss"])
            self.live.log_metric("train/learning_rate", logs["learning_rate"])
        elif "eval_loss" in logs:
            self.live.step = epoch
            self.live.log_metric("validation/loss", logs["eval_loss"])
            self.live.log_metric("validation/accuracy", logs["eval_accuracy"])
            self.live.sync()
            say(
                f"epoch {epoch:3d}  training loss {self._train_loss:.3f}  validation loss "
                f"{logs['eval_loss']:.3f}  accuracy {logs['eval_accuracy']:.3f}"
            )


class RunningLoss(TrainerCallback):
    """Counts an epoch's steps, and takes up the loss of an epoch that was interrupted."""

    trainer: ClipTrainer

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if running := state.stateful_callbacks.get(RUNNING):
            self.trainer.epoch_loss, self.trainer.epoch_steps = running["loss"], running["steps"]

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.trainer.epoch_steps += 1


class Stopped(Exception):
    """Training was told to stop, and has saved a checkpoint."""


class StopOnSignal(TrainerCallback):
    """Ctrl-C or SIGTERM (a preempted machine) saves a checkpoint after the step and stops."""

    def __init__(self) -> None:
        self.received: str | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, number, frame) -> None:
        self.received = signal.Signals(number).name

    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = control.should_save or self.received is not None
        return control

    def on_save(self, args, state, control, **kwargs) -> None:
        if self.received:
            raise Stopped


@dataclass(frozen=True)
class Outcome:
    """What training ended with: the best epoch and its validation figures."""

    epoch: int
    accuracy: float
    loss: float


def fine_tune(
    model: PreTrainedModel,
    encoded: Encoded,
    parts: dict[str, Part],
    train: Train,
    learning_rate: float,
    seed: int,
    checkpoints: Path,
    live: Live,
) -> Outcome:
    """Train `model` in place and leave it with its best epoch's weights.

    Goes on from the last whole checkpoint in `checkpoints`, if there is one.

    Raises:
        PipelineError: the device is missing or out of memory, or training was told to stop.
    """
    stop, running = StopOnSignal(), RunningLoss()
    callbacks = [running, Curves(live), stop]
    if train.early_stopping:
        callbacks.append(EarlyStoppingCallback(train.early_stopping))
    trainer = ClipTrainer(
        model=model,
        args=arguments(train, learning_rate, seed, checkpoints),
        train_dataset=Segments(encoded, parts["train"]),
        eval_dataset=Segments(encoded, parts["validation"]),
        validation=Segments(encoded, parts["validation"]),
        label_smoothing=train.label_smoothing,
        data_collator=Collator(encoded.input_name),
        callbacks=callbacks,
    )
    running.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    resumed = last_checkpoint(checkpoints)
    if resumed:
        say(f"going on from {resumed.name}")
    try:
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    except torch.OutOfMemoryError:
        raise PipelineError(out_of_memory(train)) from None
    except Stopped:
        raise PipelineError(
            f"{stop.received} received; a checkpoint is kept, and the same command goes on from it."
        ) from None
    return _outcome(trainer)


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
        gradient_accumulation_steps=train.accumulation_steps,
        learning_rate=learning_rate,
        warmup_steps=train.warmup,  # below 1, it is a share of all steps
        lr_scheduler_type="linear",
        weight_decay=train.weight_decay,
        activation_checkpointing=train.gradient_checkpointing,
        use_cpu=device == "cpu",
        seed=seed,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
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


def choose_device(train: Train) -> str:
    """Return "cuda" or "cpu", as `train.device` asks and the machine has.

    Raises:
        PipelineError: a GPU is asked for and none is there.
    """
    if train.device == "cuda" and not torch.cuda.is_available():
        raise PipelineError("train.device is cuda, but PyTorch sees no GPU; set it to auto or cpu.")
    if train.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return train.device


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


def out_of_memory(train: Train) -> str:
    """What to type when the device is full: less at once, the same recipe."""
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


def _outcome(trainer: Trainer) -> Outcome:
    best = max(
        (logs for logs in trainer.state.log_history if "eval_selection" in logs),
        key=lambda logs: logs["eval_selection"],
    )
    return Outcome(round(best["epoch"]), best["eval_accuracy"], best["eval_loss"])
