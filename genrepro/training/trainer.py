"""🤗 Trainer with this project's protocol: validated by clip, exact across interruptions."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import numpy as np
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional
from transformers import Trainer, TrainerControl

from genrepro.core.errors import PipelineError
from genrepro.core.params import Train
from genrepro.model.inference import average_segments, segment_logits
from genrepro.training.callbacks import steps_per_epoch
from genrepro.training.data import IGNORED, Collator, Prefetcher, Shuffled
from genrepro.training.metric import ClipFigures, selection

EPOCH_LOSS = "training loss of the epoch so far"  # its key in trainer_state.json
WEIGHTS = "weights.pt"


class ClipTrainer(Trainer):
    """Trainer that validates by clip: a clip's segments give one prediction, as in the test.

    A checkpoint also holds the best weights so far and the training loss of an unfinished epoch, so
    that an interrupted run ends with the model and the curves of an uninterrupted one. Weights are
    written under the model's own names, some of which transformers changes when it saves a model.
    """

    control: TrainerControl

    def __init__(self, *args, recipe: Train, **kwargs) -> None:
        super().__init__(*args, compute_loss_func=self._loss, **kwargs)
        self.recipe, self.keep_best = recipe, recipe.keep == "best"
        self.class_weights = None
        if recipe.class_weights == "balanced":
            targets = self.train_dataset.part.targets
            present = np.unique(targets)
            full = torch.promote_types(self.model.dtype, torch.float32)
            self.class_weights = torch.zeros(
                self.model.config.num_labels, dtype=full, device=self.args.device
            )
            self.class_weights[present] = torch.as_tensor(
                compute_class_weight("balanced", classes=present, y=targets),
                dtype=full,
                device=self.args.device,
            )
        self.figures = ClipFigures(keep_in_memory=True)
        self.best: dict[str, torch.Tensor] | None = None
        self.epoch_loss: float | torch.Tensor = 0.0
        if self.args.device.type == "cuda":
            self.data_collator = Prefetcher(kwargs["data_collator"], self.args.device)

    def _get_train_sampler(self, *args) -> Shuffled:
        together = self.args.train_batch_size * self.args.world_size
        multiple = together if self.args.world_size > 1 else 1
        self.sampler = Shuffled(len(self.train_dataset), self.args.seed, multiple)
        return self.sampler

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        if isinstance(self.data_collator, Prefetcher):
            epoch_iterator = map(Prefetcher.receive, epoch_iterator)
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def floating_point_ops(self, inputs) -> int:
        return 0  # an estimate that nobody reads, and that takes time at every step

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        batches = inputs.get(Collator.EQUAL, [inputs])
        loss = torch.zeros((), device=self.args.device)
        for number, batch in enumerate(batches, 1):
            more = number < len(batches)  # processes exchange their gradients after the last
            with self.accelerator.no_sync(model) if more else contextlib.nullcontext():
                loss = loss + super().training_step(model, batch, num_items_in_batch)
        self.epoch_loss = self.epoch_loss + loss.double()
        if loss.device.type == "cpu":  # reading a GPU's loss would wait for it; see `log`
            self._check_finite(loss.item(), math.floor(self.state.epoch or 0) + 1)
        return loss

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs:
            steps = steps_per_epoch(self.args, self.state)
            logs["loss"] = float(np.mean(self._epoch_losses())) / steps
            self.epoch_loss = 0.0
            self._check_finite(logs["loss"], round(self.state.epoch))
        super().log(logs, *args, **kwargs)

    def _check_finite(self, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            raise PipelineError(
                f"training diverged in epoch {epoch}: the loss is {loss}. "
                "Earlier results were kept. Try a tenth of train.learning_rate (or "
                "train.scratch_learning_rate, for a backbone without weights), a longer "
                "train.warmup, or train.precision=none if that is fp16."
            )

    def _epoch_losses(self) -> list[float]:
        """The loss so far on each process; their mean is the loss of the effective batches."""
        loss = torch.as_tensor(self.epoch_loss, dtype=torch.float64, device=self.args.device)
        return self.accelerator.gather(loss[None]).tolist()

    def _determine_best_metric(self, metrics, trial) -> bool:
        is_best = super()._determine_best_metric(metrics, trial)
        if is_best and self.keep_best:
            self.best = {name: weight.to("cpu", copy=True) for name, weight in self._weights()}
        return is_best

    def load_best(self) -> None:
        """Return to the weights of the best epoch."""
        self.accelerator.unwrap_model(self.model).load_state_dict(self.best)

    def _weights(self):
        return self.accelerator.unwrap_model(self.model).state_dict().items()

    def _save_checkpoint(self, *args) -> None:
        self.state.stateful_callbacks[EPOCH_LOSS] = self._epoch_losses()
        super()._save_checkpoint(*args)

    def _save(self, output_dir: str, state_dict=None) -> None:
        if self.args.should_save:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            content = {"current": dict(self._weights()), "best": self.best}
            torch.save(content, Path(output_dir) / WEIGHTS)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()  # rank 0 then writes the file that completes it

    def _load_from_checkpoint(self, checkpoint: str, model=None) -> None:
        content = torch.load(Path(checkpoint) / WEIGHTS, map_location="cpu", weights_only=True)
        self.accelerator.unwrap_model(self.model).load_state_dict(content["current"])
        self.best = content["best"]

    def _load_callback_state(self) -> None:
        super()._load_callback_state()
        self.epoch_loss = self.state.stateful_callbacks[EPOCH_LOSS][self.args.process_index]
        # accelerate's set_epoch does not reach the sampler of several processes past the wrapper
        # that skips an unfinished epoch's first batches
        self.sampler.set_epoch(self.state.global_step // steps_per_epoch(self.args, self.state))

    def _loss(self, outputs, labels, num_items_in_batch=None) -> torch.Tensor:
        """Cross-entropy over the effective batch; accumulated batches are weighted by size.

        Args:
            labels: (batch,), or (batch, labels) shares where segments were mixed. Trainer counts
                each of the shares as an item.
        """
        mixed = labels.dim() == 2
        logits = outputs.logits.to(torch.promote_types(outputs.logits.dtype, torch.float32))
        losses = functional.cross_entropy(
            logits,
            labels.clamp(min=0).to(logits.dtype) if mixed else labels,
            weight=self.class_weights,
            label_smoothing=self.recipe.label_smoothing,
            reduction="none" if mixed else "sum",
        )
        if not mixed:
            return losses / (len(labels) if num_items_in_batch is None else num_items_in_batch)
        loss = (losses * (labels[:, 0] != IGNORED)).sum()
        items = labels.numel() if num_items_in_batch is None else num_items_in_batch
        return loss * labels.shape[1] / items

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Figures of the validation clips, and what ranks the epochs.

        The processes that a launcher started share the work and return the same figures.
        """
        part = self.eval_dataset.part
        logits = average_segments(self._validation_logits(), np.array(part.clip_of))
        targets = torch.tensor(part.targets)
        loss = functional.cross_entropy(torch.from_numpy(logits), targets).item()
        self._check_finite(loss, round(self.state.epoch))
        predictions = {"predictions": logits.argmax(axis=1), "references": part.targets}
        figures = self.figures.compute(**predictions) | {"loss": loss}
        figures["selection"] = selection(self.recipe.select_by, figures, len(part.targets))
        metrics = {f"eval_{name}": value for name, value in figures.items()}
        self.log(metrics)
        control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if control.should_training_stop:  # no run resumes after the last epoch
            control.should_save = False
        self.control = control
        return metrics

    def _validation_logits(self) -> np.ndarray:
        """(segments, labels), the same on all ranks: each computes its share, the rest is zero."""
        data = self.eval_dataset
        mine = range(self.args.process_index, len(data), self.args.world_size)
        segments = [data.features(index) for index in mine]
        with self.compute_loss_context_manager():
            share = segment_logits(self.model, segments, self.args.per_device_eval_batch_size)
        if len(segments) == len(data):
            return share
        logits = torch.zeros(len(data), share.shape[1], device=self.args.device)
        logits[list(mine)] = torch.from_numpy(share).to(logits.device)
        return self.accelerator.reduce(logits, "sum").cpu().numpy()
