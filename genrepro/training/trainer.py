"""🤗 Trainer, held to this project's protocol: validated by clip, exact across interruptions."""

from __future__ import annotations

import math
from pathlib import Path

import datasets
import evaluate
import numpy as np
import torch
from sklearn.metrics import accuracy_score
from torch.nn import functional
from transformers import PreTrainedModel, Trainer

from genrepro.model import backbone
from genrepro.model.inference import average_segments, segment_logits
from genrepro.training.data import Segments, Shuffled

RUNNING = "running training loss"  # its key in trainer_state.json


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
        together = self.args.train_batch_size * self.args.world_size
        multiple = together if self.args.world_size > 1 else 1
        return Shuffled(len(self.train_dataset), self.args.seed, multiple)

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self.epoch_loss = self.epoch_loss + loss.double()
        return loss

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs:
            logs["loss"] = float(np.mean(self._losses())) / self.epoch_steps
            self.epoch_loss, self.epoch_steps = 0.0, 0
        super().log(logs, *args, **kwargs)

    def _losses(self) -> list[float]:
        """Each rank's running loss; their mean is the effective batch's (Trainer scales it so)."""
        loss = torch.as_tensor(self.epoch_loss, dtype=torch.float64, device=self.args.device)
        return self.accelerator.gather(loss[None]).tolist()

    def _load_from_checkpoint(self, checkpoint: str, model: PreTrainedModel | None = None) -> None:
        """Through `from_pretrained`: some models are saved under other names than their own, which
        Trainer's own loading passes over without an error (transformers 5.23: AST's attention)."""
        target = self.accelerator.unwrap_model(model or self.model)
        target.load_state_dict(backbone.load(Path(checkpoint)).state_dict())

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def _save_checkpoint(self, *args) -> None:
        running = {"loss": self._losses(), "steps": self.epoch_steps}
        self.state.stateful_callbacks[RUNNING] = running
        super()._save_checkpoint(*args)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()  # rank 0 then writes what says that all is there

    def _loss(self, outputs, labels, num_items_in_batch=None) -> torch.Tensor:
        """Cross-entropy over the effective batch: accumulated micro-batches weigh by their size."""
        loss = functional.cross_entropy(
            outputs.logits.float(), labels, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return loss / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Accuracy and cross-entropy over the validation clips, and what ranks the epochs.

        The processes that a launcher started share the work, and see the same figures.
        """
        part = self.validation.part
        logits = average_segments(self._validation_logits(), np.array(part.clip_of))
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

    def _validation_logits(self) -> np.ndarray:
        """(segments, labels), the same on all ranks: each computes its share, the rest is zero."""
        mine = range(self.args.process_index, len(self.validation), self.args.world_size)
        segments = [self.validation[index][0] for index in mine]
        with self.compute_loss_context_manager():
            share = segment_logits(self.model, segments, self.args.per_device_eval_batch_size)
        if len(segments) == len(self.validation):
            return share
        logits = torch.zeros(len(self.validation), share.shape[1], device=self.args.device)
        logits[list(mine)] = torch.from_numpy(share).to(logits.device)
        return self.accelerator.reduce(logits, "sum").cpu().numpy()


def selection(accuracy: float, loss: float, clips: int) -> float:
    """Rank an epoch by accuracy, and among equals by the lower loss.

    What is added stays below half of what one of the clips is worth.
    """
    return accuracy + math.exp(-loss) / (2 * clips)


class ClipAccuracy(evaluate.Metric):
    """The share of clips whose predicted label is the true one; works without network.

    `ClipAccuracy().compute(predictions=[0, 1], references=[0, 0])` is `{"accuracy": 0.5}`.
    """

    def _info(self) -> evaluate.MetricInfo:
        whole = datasets.Features(
            {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
        )
        return evaluate.MetricInfo(
            description="Share of clips whose predicted label is the true one.",
            citation="",
            inputs_description="predictions, references: label indices, one a clip.",
            features=whole,
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}
