"""🤗 Trainer, held to this project's protocol: validated by clip, exact across interruptions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, Trainer

from genrepro import backbone
from genrepro.encoded import Encoded, Part
from genrepro.metric import ClipAccuracy
from genrepro.predict import segment_logits, stacked
from genrepro.scoring import average_segments

RUNNING = "running training loss"  # its key in trainer_state.json


Sample = tuple[np.ndarray, int, int]  # what the model is fed, how long its segment is, the target


class Segments(Dataset):
    """A part's segments with their targets, read from the memory map when asked for.

    Args:
        lengths: of the segments, where `encoded` holds what a part of the model made of them.
    """

    def __init__(self, encoded: Encoded, part: Part, lengths: list[int] | None = None) -> None:
        self.encoded, self.part, self.lengths = encoded, part, lengths

    def __len__(self) -> int:
        return len(self.part.rows)

    def __getitem__(self, index: int) -> Sample:
        features = self.encoded[self.part.rows[index]]
        length = len(features) if self.lengths is None else self.lengths[index]
        return features, length, self.part.targets[self.part.clip_of[index]]


@dataclass(frozen=True)
class Collator:
    """Stack segments into one float32 batch, zero-padded along the only axis that may differ.

    Segments of unequal length also get an attention mask, as in the course; equal ones need none.
    Only waveforms can be unequal: spectrograms are filled up by their feature extractors.
    """

    input_name: str

    def __call__(self, samples: list[Sample]) -> dict[str, torch.Tensor]:
        arrays, lengths, targets = zip(*samples)
        inputs = {self.input_name: stacked(arrays), "labels": torch.tensor(targets)}
        if min(lengths) < max(lengths):
            inside = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
            inputs["attention_mask"] = inside.long()
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
        self.accuracy = ClipAccuracy(keep_in_memory=True)
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
        """Accuracy and cross-entropy over the validation clips, and what ranks the epochs."""
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
        metrics = {
            "eval_accuracy": accuracy,
            "eval_loss": loss,
            "eval_selection": selection(accuracy, loss, len(part.targets)),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def selection(accuracy: float, loss: float, clips: int) -> float:
    """Rank an epoch by accuracy, and among equals by the lower loss.

    What is added stays below half of what one of the clips is worth.
    """
    return accuracy + math.exp(-loss) / (2 * clips)
