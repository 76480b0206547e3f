"""What happens beside the steps: learning curves, an epoch's running loss, signals."""

from __future__ import annotations

import os
import signal

import torch
from dvclive import Live
from torch import distributed
from transformers import TrainerCallback

from genrepro.core import processes
from genrepro.core.stage import log
from genrepro.training.trainer import RUNNING, ClipTrainer


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
            log(
                f"epoch {epoch:3d}  training loss {self._train_loss:.3f}  validation loss "
                f"{logs['eval_loss']:.3f}  accuracy {logs['eval_accuracy']:.3f}"
            )


class RunningLoss(TrainerCallback):
    """Counts an epoch's steps, and takes up the loss of an epoch that was interrupted."""

    trainer: ClipTrainer

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if running := state.stateful_callbacks.get(RUNNING):
            self.trainer.epoch_loss = running["loss"][args.process_index]
            self.trainer.epoch_steps = running["steps"]

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.trainer.epoch_steps += 1


class Stopped(Exception):
    """Training was told to stop, and has saved a checkpoint."""


class StopOnSignal(TrainerCallback):
    """Ctrl-C or SIGTERM (a preempted machine) saves a checkpoint after the step and stops.

    A signal reaches several ranks at different steps, or only one of them: they agree each step.
    """

    def __init__(self) -> None:
        self.number = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    @property
    def received(self) -> str | None:
        """The signal's name, once there was one."""
        return signal.Signals(self.number).name if self.number else None

    def _receive(self, number, frame) -> None:
        self.number = number
        words = f"{self.received} received: saving a checkpoint after this step\n"
        if processes.rank() == 0:
            os.write(2, words.encode())  # print may be at work just now

    def _agreed(self, args) -> bool:
        """Whether any rank has been told to stop: the same answer on all of them."""
        if args.world_size > 1:
            number = torch.tensor(self.number, device=args.device)
            distributed.all_reduce(number, distributed.ReduceOp.MAX)
            if not int(number):
                return False  # a signal that came just now waits for the next time
            self.number = int(number)
        return self.number > 0

    def on_step_end(self, args, state, control, **kwargs):
        """An epoch's last step is followed by its evaluation and its own checkpoint: a checkpoint
        before these would be gone on from without them."""
        last = state.global_step % (state.max_steps // args.num_train_epochs) == 0
        control.should_save = (self._agreed(args) and not last) or control.should_save
        return control

    def on_save(self, args, state, control, **kwargs) -> None:
        if self._agreed(args):
            raise Stopped
