"""The linear probe: the best linear head on a frozen backbone, solved for instead of trained.

The backbone's output for a segment, averaged over time, is one vector. A logistic regression on
these vectors has a single optimum: there is no learning rate and no number of epochs to choose, and
the order of batches plays no part. Only the L2 penalty is chosen, on the validation split. After
Alain and Bengio, Understanding intermediate layers using linear classifier probes (2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from dvclive import Live
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn
from transformers import PreTrainedModel

from genrepro.core.errors import PipelineError
from genrepro.core.stage import log
from genrepro.encoding.parts import Part
from genrepro.model.inference import average_segments
from genrepro.training.callbacks import DIGITS
from genrepro.training.data import Segments
from genrepro.training.fine_tune import Outcome
from genrepro.training.metric import ClipFigures

PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(8, -3, -1))  # 10^4 to 0.1
WEAKER = tuple(10 ** (exponent / 2) for exponent in range(-3, -13, -1))  # while these are better
MAX_ITERATIONS = 10_000


def fit(
    model: PreTrainedModel, segments: dict[str, Segments], class_weights: str, live: Live | None
) -> Outcome:
    """Set `model`'s head to the probe of the "train" segments, in place.

    The penalty with the lowest loss on "validation" is kept: on few clips, the loss says more than
    the accuracy.

    Args:
        segments: outputs of the frozen backbone, as `frozen.cached_outputs` yields them. One
            float64 vector per segment is held in memory: 6 kB at 768 channels.
        class_weights: "balanced" to count all labels alike, or "none" to count all clips alike.
        live: where the figures go, as those of a single epoch; None on all ranks but the first.

    Raises:
        PipelineError: the model's head is not linear.
    """
    head = Head(model)
    vectors = {name: head.vectors(part) for name, part in segments.items()}
    tried = probes(vectors, {name: one.part for name, one in segments.items()}, class_weights)
    for probe in tried:
        log(
            f"penalty {probe.penalty:9.2f}  training loss {probe.figures['train']['loss']:.3f}  "
            "validation loss {loss:.3f}  accuracy {accuracy:.3f}".format(
                **probe.figures["validation"]
            )
        )
    found = best(tried)
    if found in (tried[0], tried[-1]):
        which = "strongest" if found is tried[0] else "weakest"
        log(f"the best penalty is the {which} one tried; beyond it there may be a better one")
    head.set(found.weight, found.bias)
    if live is not None:
        _log(live, found)
    curve = [
        (
            each.penalty,
            each.figures["train"]["loss"],
            each.figures["validation"]["loss"],
            each.figures["validation"]["accuracy"],
        )
        for each in tried
    ]
    return Outcome("penalty", found.penalty, **found.figures["validation"], curve=curve)


class Head:
    """A classifier's head, where that is linear on outputs averaged over time."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._norm = None
        if isinstance(getattr(model, "projector", None), nn.Linear):
            self._layers = [model.projector, model.classifier]  # the mean over time in between
        elif isinstance(getattr(model.classifier, "dense", None), nn.Linear):  # AST
            self._norm, self._layers = model.classifier.layernorm, [model.classifier.dense]
        else:
            raise PipelineError(
                f"train.probe does not know the head of a {model.config.model_type} model; set it "
                "to false."
            )

    def vectors(self, segments: Segments) -> np.ndarray:
        """(segments, channels) float64: the input of the head for each segment."""
        outputs = (segments.features(row).astype(np.float64) for row in range(len(segments)))
        means = np.stack([output.reshape(-1, output.shape[-1]).mean(axis=0) for output in outputs])
        if self._norm is None:
            return means
        with torch.inference_mode():
            dtype = self._norm.weight.dtype
            return self._norm(torch.from_numpy(means).to(dtype)).double().numpy()

    @torch.no_grad()
    def set(self, weight: np.ndarray, bias: np.ndarray) -> None:
        """Make the head `weight` (labels, channels) and `bias` (labels,).

        `backbone.build` gives a projector as many channels as there are labels: it becomes the
        probe, and the classifier after it the identity.
        """
        first, *rest = self._layers
        first.weight.copy_(torch.from_numpy(weight))
        first.bias.copy_(torch.from_numpy(bias))
        for classifier in rest:
            nn.init.eye_(classifier.weight)
            nn.init.zeros_(classifier.bias)


@dataclass(frozen=True)
class Probe:
    """A linear head, (labels, channels) and (labels,).

    Attributes:
        figures: for each split, the accuracy, macro F1 and loss of its clips.
    """

    penalty: float
    weight: np.ndarray
    bias: np.ndarray
    figures: dict[str, dict[str, float]]


def best(tried: list[Probe]) -> Probe:
    return min(tried, key=lambda probe: probe.figures["validation"]["loss"])


def probes(
    vectors: dict[str, np.ndarray], parts: dict[str, Part], class_weights: str
) -> list[Probe]:
    """Fit a probe to the split "train" for each penalty, from the strongest to the weakest.

    A clip counts for as much however many segments it has.

    Args:
        vectors: for each split (segments, channels), in the order of its `clip_of`.
    """
    clip_of, targets = np.array(parts["train"].clip_of), np.array(parts["train"].targets)
    weights = 1 / np.bincount(clip_of)[clip_of]
    solver = LogisticRegression(
        max_iter=MAX_ITERATIONS,
        warm_start=True,
        class_weight="balanced" if class_weights == "balanced" else None,
    )
    tried: list[Probe] = []
    with threadpool_limits(1):  # sums over several threads differ in their last bits
        scaler = StandardScaler().fit(vectors["train"], sample_weight=weights)
        scaled = scaler.transform(vectors["train"])
        for penalty in PENALTIES + WEAKER:
            if penalty in WEAKER and best(tried) is not tried[-1]:
                break
            solver.set_params(C=1 / penalty).fit(scaled, targets[clip_of], sample_weight=weights)
            weight = _one_row_per_label(solver.coef_) / scaler.scale_
            bias = _one_row_per_label(solver.intercept_) - weight @ scaler.mean_
            tried.append(Probe(penalty, weight, bias, _figures(weight, bias, vectors, parts)))
    return tried


def _one_row_per_label(solution: np.ndarray) -> np.ndarray:
    """For two labels scikit-learn has one row, the difference of the second label and the first."""
    return np.concatenate([-solution, solution]) / 2 if len(solution) == 1 else solution


def _figures(
    weight: np.ndarray, bias: np.ndarray, vectors: dict[str, np.ndarray], parts: dict[str, Part]
) -> dict[str, dict[str, float]]:
    """The figures of each split, by clip."""
    figures, metric = {}, ClipFigures(keep_in_memory=True)
    for name, part in parts.items():
        logits = average_segments(vectors[name] @ weight.T + bias, np.array(part.clip_of))
        probabilities = softmax(logits, axis=1)
        loss = float(log_loss(part.targets, probabilities, labels=range(len(bias))))
        found = metric.compute(predictions=logits.argmax(axis=1), references=part.targets)
        figures[name] = found | {"loss": loss}
    return figures


def _log(live: Live, found: Probe) -> None:
    live.step = 1
    for name, value in (
        ("train/loss", found.figures["train"]["loss"]),
        ("validation/loss", found.figures["validation"]["loss"]),
        ("validation/accuracy", found.figures["validation"]["accuracy"]),
    ):
        live.log_metric(name, round(value, DIGITS))
    live.sync()
