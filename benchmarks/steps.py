"""Training steps as 🤗 Trainer does them, timed from the epoch's start: so with their batches."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    AutoModelForAudioClassification,
    HubertConfig,
    PreTrainedModel,
    SequenceFeatureExtractor,
    Trainer,
    TrainerCallback,
)

from benchmarks import course
from benchmarks.pairs import cpu_seconds, timed
from benchmarks.read import training_part
from genrepro.core import paths
from genrepro.core.files import remove
from genrepro.core.params import Train, load
from genrepro.encoding.store import Encoded
from genrepro.model import backbone
from genrepro.training import frozen
from genrepro.training.data import Collator, Segments
from genrepro.training.fine_tune import arguments
from genrepro.training.trainer import ClipTrainer
from stages import encode


class Watch(TrainerCallback):
    """Stops after so many steps. The first two, if there are more, are not counted: in them the
    process gets the memory that later steps have."""

    def __init__(self, steps: int) -> None:
        self.steps, self.marks = steps, []

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.marks.append((time.perf_counter(), cpu_seconds()))

    def on_step_end(self, args, state, control, **kwargs):
        self.marks.append((time.perf_counter(), cpu_seconds()))
        control.should_training_stop = len(self.marks) > self.steps
        return control

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_evaluate = control.should_save = control.should_log = False
        return control

    def a_step(self) -> dict[str, float]:
        first = min(2, self.steps - 1)
        (wall, cpu), (last_wall, last_cpu) = self.marks[first], self.marks[-1]
        steps = len(self.marks) - 1 - first
        return {"wall": (last_wall - wall) / steps, "cpu": (last_cpu - cpu) / steps}


def classifier(config: HubertConfig, freeze: str = "nothing") -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForAudioClassification.from_config(config, trust_remote_code=False)
    backbone.freeze(model, freeze)
    return model


def course_steps(
    model: PreTrainedModel,
    encoded: Dataset,
    extractor: SequenceFeatureExtractor,
    batch_size: int,
    steps: int,
    gpu: bool = False,
) -> dict[str, float]:
    """Seconds of one of the course's steps."""
    watch = Watch(steps)
    trainer = Trainer(
        model,
        course.arguments(Path("course"), batch_size, gpu=gpu),
        train_dataset=encoded,
        processing_class=extractor,
        callbacks=[watch],
    )
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    return watch.a_step()


def our_steps(
    model: PreTrainedModel, segments: Segments, train: Train, steps: int
) -> dict[str, float]:
    """Seconds of one of this pipeline's steps, which validates and saves after the epoch alone.

    What is frozen is computed once for `train.epochs` epochs: a step has its share of that.
    """
    watch = Watch(steps)
    args = arguments(train, train.learning_rate, 0, Path("ours"))
    parts = {"train": segments.part}
    remove(Path("front"))
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        front, found = (
            frozen.cached_outputs(model, segments.encoded, parts, train, Path("front")),
            {},
        )
        once = timed(lambda: found.update(stack.enter_context(front)))
        heard = found["train"]
        trainer = ClipTrainer(
            model=model,
            args=args,
            train_dataset=heard,
            eval_dataset=heard,
            validation=heard,
            label_smoothing=train.label_smoothing,
            data_collator=Collator(segments.encoded.input_name),
            callbacks=[watch],
        )
        trainer.train()
    share = train.batch_size / len(segments) / train.epochs
    return {clock: seconds + share * once[clock] for clock, seconds in watch.a_step().items()}


def encoded_here() -> Segments:
    """Run the encode stage on the clips of the current folder."""
    with contextlib.redirect_stdout(io.StringIO()):
        encode.main(load())
    return training_part(Encoded.open(paths.ENCODED))
