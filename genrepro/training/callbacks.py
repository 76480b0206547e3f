"""What happens beside the training steps: learning curves, a progress bar, checkpoints, signals."""

from __future__ import annotations

import os
import signal
import time

import torch
from dvclive import Live
from torch import distributed
from tqdm import tqdm
from transformers import TrainerCallback

from genrepro.core import processes
from genrepro.core.stage import log

DIGITS = 6  # of figures that are recorded; processors differ in later ones


class Curves(TrainerCallback):
    """One DVCLive step per epoch, training and validation side by side.

    transformers' own callback advances at every log, so these would be on different steps. A
    resumed run writes the earlier epochs again, from the checkpoint.
    """

    def __init__(self, live: Live, macro_f1: bool) -> None:
        """macro_f1: whether to report it beside the accuracy."""
        self.live, self.macro_f1 = live, macro_f1

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
            self.live.log_metric("train/loss", round(logs["loss"], DIGITS))
            self.live.log_metric("train/learning_rate", logs["learning_rate"])
        elif "eval_loss" in logs:
            self.live.step = epoch
            self.live.log_metric("validation/loss", round(logs["eval_loss"], DIGITS))
            self.live.log_metric("validation/accuracy", round(logs["eval_accuracy"], DIGITS))
            if self.macro_f1:
                self.live.log_metric("validation/macro_f1", round(logs["eval_macro_f1"], DIGITS))
            self.live.sync()
            log(
                f"epoch {epoch:3d}  training loss {self._train_loss:.3f}  validation loss "
                f"{logs['eval_loss']:.3f}  accuracy {logs['eval_accuracy']:.3f}"
                + (f"  macro F1 {logs['eval_macro_f1']:.3f}" if self.macro_f1 else "")
            )


class ProgressBar(TrainerCallback):
    """The steps of the current epoch, on a terminal; gone when the epoch's figures are printed."""

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        steps = steps_per_epoch(args, state)
        epoch, done = divmod(state.global_step, steps)
        self.bar = tqdm(
            total=steps,
            initial=done,
            desc=f"epoch {epoch + 1}",
            unit="step",
            leave=False,
            disable=True if processes.rank() else None,  # None: shown on a terminal only
        )

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.bar.update()

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        self.bar.close()


def steps_per_epoch(args, state) -> int:
    return state.max_steps // args.num_train_epochs


class Stopped(Exception):
    """Training was told to stop, and has saved a checkpoint."""


class Checkpoints(TrainerCallback):
    """Decides when to save what a run needs to resume.

    After an epoch, unless saving would take more than SHARE of the time since the last checkpoint:
    a run that is killed repeats the steps since then, and gives the same bytes. And after the
    current step when Ctrl-C or SIGTERM (a preempted machine) asks the run to stop. A signal may
    reach several processes at different steps, or only one of them: they agree at each step.
    """

    SHARE = 0.05

    def __init__(self) -> None:
        self.received: str | None = None  # the name of the signal
        self._number, self._agreed = 0, 0  # of the signal: here, and on any process
        self._cost, self._saved = 0.0, time.monotonic()

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._receive) for number in numbers}

    def on_train_end(self, args, state, control, **kwargs) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number, frame) -> None:
        self._number = number
        self.received = signal.Signals(number).name
        if processes.rank() == 0:  # `print` may be interrupted by this very signal
            os.write(2, f"{self.received} received: stopping after this step\n".encode())

    def on_step_end(self, args, state, control, **kwargs):
        """Not after an epoch's last step: a run resumed there would skip the evaluation."""
        (self._agreed,) = self._agree(args, self._number)
        last = state.global_step % steps_per_epoch(args, state) == 0
        control.should_save = control.should_save or (self._agreed > 0 and not last)
        return control

    def on_evaluate(self, args, state, control, **kwargs):
        self._began = time.monotonic()
        due = self._cost <= self.SHARE * (self._began - self._saved)
        self._agreed, save = self._agree(args, self._number, due and processes.rank() == 0)
        control.should_save = bool(self._agreed or save)
        return control

    def on_save(self, args, state, control, **kwargs) -> None:
        if self._agreed:
            self.received = signal.Signals(self._agreed).name
            raise Stopped
        self._saved = time.monotonic()
        self._cost = self._saved - self._began

    def _agree(self, args, *numbers: int) -> list[int]:
        """The largest of each of the numbers over all processes."""
        if args.world_size == 1:
            return list(numbers)
        everyone = torch.tensor(numbers, dtype=torch.int64, device=args.device)
        distributed.all_reduce(everyone, distributed.ReduceOp.MAX)
        return everyone.tolist()
