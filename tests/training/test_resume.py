"""Training that was stopped, at any step and in any way, ends with the uninterrupted bytes."""

import contextlib
import csv
import signal

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from genrepro.core.errors import PipelineError
from genrepro.training import fine_tune
from genrepro.training.callbacks import Checkpoints
from genrepro.training.trainer import ClipTrainer
from tests.support.tones import CHANGED, corpus, preempted, train, weights


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 5])
def test_a_run_stopped_by_a_signal_resumes_to_the_same_bytes(
    made, uninterrupted, tmp_path, monkeypatch, step
):
    preempted(monkeypatch, made, tmp_path, step)
    model, outcome = train(made, tmp_path)
    assert outcome == uninterrupted[1]
    assert torch.equal(weights(model), weights(uninterrupted[0]))
    for curve in (tmp_path / "curves/plots/metrics").rglob("*.tsv"):
        relative = curve.relative_to(tmp_path)
        assert curve.read_bytes() == (uninterrupted[2] / relative).read_bytes(), relative


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "gradient checkpointing"])
def test_dropout_and_layerdrop_resume_where_they_stopped(tmp_path, monkeypatch, checkpointing):
    made = corpus("hubert", tmp_path)
    recipe = {"epochs": 2, "gradient_checkpointing": checkpointing}
    uninterrupted, _ = train(made, tmp_path / "uninterrupted", **recipe)
    assert uninterrupted.config.attention_dropout and uninterrupted.config.layerdrop
    preempted(monkeypatch, made, tmp_path / "interrupted", 1, **recipe)
    resumed, _ = train(made, tmp_path / "interrupted", **recipe)
    assert torch.equal(weights(resumed), weights(uninterrupted))


@pytest.mark.parametrize("step", [2, 4])
def test_changed_segments_resume_in_the_middle_of_an_epoch_to_the_same_bytes(
    made, changed, tmp_path, monkeypatch, step
):
    preempted(monkeypatch, made, tmp_path, step, **CHANGED, batch_size=4)
    model, outcome = train(made, tmp_path, **CHANGED, batch_size=4)
    assert outcome == changed[1]
    assert torch.equal(weights(model), weights(changed[0]))
    curve = "curves/plots/metrics/train/loss.tsv"
    assert (tmp_path / curve).read_bytes() == (changed[2] / curve).read_bytes()


STOPS = st.tuples(st.integers(1, 11), st.sampled_from(["SIGTERM", "SIGINT", "sudden"]))


STOPPING = {"epochs": 9, "rate": 3.0, "warmup": 0.0, "early_stopping": 2}


@pytest.fixture(scope="module")
def stopped_early(made, tmp_path_factory):
    """A run of which validation ends the training before its last epoch, and its steps."""
    where = tmp_path_factory.mktemp("stopped early")
    model, outcome = train(made, where, **STOPPING)
    with (where / "curves/plots/metrics/validation/loss.tsv").open() as file:
        epochs = len(list(csv.DictReader(file, delimiter="\t")))
    assert outcome.kept + 2 == epochs < 9
    return model, outcome, epochs * 3


@pytest.mark.parametrize("before_the_end", [1, 4])
def test_early_stopping_resumes_with_its_patience(
    made, stopped_early, tmp_path, monkeypatch, before_the_end
):
    model, outcome, steps = stopped_early
    preempted(monkeypatch, made, tmp_path, steps - before_the_end, **STOPPING)
    resumed, again = train(made, tmp_path, **STOPPING)
    assert again == outcome
    assert torch.equal(weights(resumed), weights(model))


RECIPES = {  # each ends after 12 steps or a few more
    "best epoch": {},
    "last epoch": {"keep": "last"},
    "early stopping": STOPPING,
    "by macro F1, balanced": {"select_by": "macro_f1", "class_weights": "balanced"},
    "a segment at a time": {"batch_size": 1, "label_smoothing": 0.1},
}


@pytest.fixture(scope="module")
def references(made, tmp_path_factory):
    """Outcome and weights of each recipe's uninterrupted run."""
    found = {}
    for name, recipe in RECIPES.items():
        model, outcome = train(made, tmp_path_factory.mktemp(name.split()[0]), **recipe)
        found[name] = outcome, weights(model)
    return found


@pytest.mark.slow
@settings(max_examples=6, deadline=None, phases=[Phase.generate])
@given(st.sampled_from(sorted(RECIPES)), st.lists(STOPS, min_size=1, max_size=2))
def test_stops_at_random_steps_change_no_byte(made, references, tmp_path_factory, name, stops):
    """One or two stops of a run; another --hypothesis-seed gives others."""
    where = tmp_path_factory.mktemp("stopped")
    for step, kind in sorted(stops):
        stopped_at(step, kind, made, where, **RECIPES[name])
    model, outcome = train(made, where, **RECIPES[name])
    assert outcome == references[name][0]
    assert torch.equal(weights(model), references[name][1])


def stopped_at(step: int, kind: str, made, where, **recipe) -> None:
    """Train until a signal or a sudden end at an optimizer step, if the run gets there."""

    class Stopping(Checkpoints):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == step:
                if kind == "sudden":
                    raise SystemExit  # as for a kill, nothing is saved
                signal.raise_signal(signal.Signals[kind])
            return super().on_step_end(args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(PipelineError, SystemExit):
        patch.setattr(fine_tune, "Checkpoints", Stopping)
        train(made, where, **recipe)


def test_a_signal_in_the_last_step_lets_the_run_finish(
    made, stopped_early, uninterrupted, tmp_path, monkeypatch
):
    class Late(Checkpoints):
        last = 12

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == self.last:
                signal.raise_signal(signal.SIGTERM)
            return super().on_step_end(args, state, control, **kwargs)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(fine_tune, "Checkpoints", Late)
    assert train(made, tmp_path / "whole")[1] == uninterrupted[1]
    Late.last = stopped_early[2]
    assert train(made, tmp_path / "early", **STOPPING)[1] == stopped_early[1]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_killed_run_resumes_from_a_checkpoint_to_the_same_bytes(
    made, uninterrupted, tmp_path, monkeypatch, capsys
):
    class Killed(Checkpoints):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 8:
                raise SystemExit  # as sudden for Python as a kill, and nothing is saved
            return super().on_step_end(args, state, control, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(fine_tune, "Checkpoints", Killed)
        train(made, tmp_path)
    model, outcome = train(made, tmp_path)
    assert "resuming from checkpoint-" in capsys.readouterr().out
    assert outcome == uninterrupted[1]
    assert torch.equal(weights(model), weights(uninterrupted[0]))


def test_checkpoints_take_a_small_share_of_the_time_and_the_last_epoch_gets_none(
    made, tmp_path, monkeypatch
):
    saved = []
    monkeypatch.setattr(ClipTrainer, "_save_checkpoint", lambda *_: saved.append(len(saved)))
    monkeypatch.setattr(Checkpoints, "SHARE", 1e9)
    train(made, tmp_path / "cheap", keep="last")
    assert len(saved) == 3  # of four epochs
    saved.clear()
    monkeypatch.setattr(Checkpoints, "SHARE", 1e-9)
    train(made, tmp_path / "dear", keep="last")
    assert len(saved) == 1


def test_an_incomplete_checkpoint_is_passed_over(tmp_path):
    for step, state in ((3, "{}"), (12, "{}"), (15, '{"cut'), (18, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}/trainer_state.json").write_text(state)
    assert fine_tune.last_checkpoint(tmp_path).name == "checkpoint-12"
    assert fine_tune.last_checkpoint(tmp_path / "none") is None


@pytest.mark.slow
def test_training_on_unequal_lengths_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    made = corpus("hubert", tmp_path, seconds=(0.6, 0.5, 0.4))
    uninterrupted, _ = train(made, tmp_path / "uninterrupted", epochs=2, batch_size=4)
    preempted(monkeypatch, made, tmp_path / "interrupted", 2, epochs=2, batch_size=4)
    resumed, _ = train(made, tmp_path / "interrupted", epochs=2, batch_size=4)
    assert torch.equal(weights(resumed), weights(uninterrupted))
