"""What happens beside the steps: learning curves, an epoch's running loss, signals."""

from __future__ import annotations

import os
import signal

from dvclive import Live
from transformers import TrainerCallback

from genrepro.runtime import say
from genrepro.trainer import RUNNING, ClipTrainer


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
        words = f"{self.received} received: saving a checkpoint after this step\n"
        os.write(2, words.encode())  # print may be at work just now

    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = control.should_save or self.received is not None
        return control

    def on_save(self, args, state, control, **kwargs) -> None:
        if self.received:
            raise Stopped
