"""What happens beside the training steps."""

import io
import sys
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from genrepro.training.callbacks import ProgressBar


class Output(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "rank", "shown"), [(True, 0, True), (False, 0, False), (True, 1, False)]
)
def test_the_first_process_shows_the_steps_of_an_epoch_on_a_terminal(
    terminal, rank, shown, monkeypatch
):
    monkeypatch.setattr(sys, "stderr", written := Output(terminal))
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.setenv("RANK", str(rank))
    args = SimpleNamespace(num_train_epochs=3)
    state, control, bar = TrainerState(max_steps=12, global_step=5), TrainerControl(), ProgressBar()
    bar.on_epoch_begin(args, state, control)  # resumed after the first step of the second epoch
    bar.bar.mininterval = 0  # seconds between two drawings
    bar.on_step_end(args, state, control)
    bar.on_epoch_end(args, state, control)
    text = written.getvalue()
    assert ("epoch 2" in text) is shown
    assert ("1/4" in text and "2/4" in text) is shown
