"""The linear probe: the best linear head on a frozen backbone, found exactly instead of by steps.

What the backbone gives of a segment, averaged over time, is one vector. A logistic regression on
these has a single optimum, so there is no learning rate, no epoch and no luck with the order of
batches: only the L2 penalty is chosen, on the validation part. After Alain and Bengio,
Understanding intermediate layers using linear classifier probes (2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from dvclive import Live
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn
from transformers import PreTrainedModel

from genrepro.runtime import PipelineError, say
from genrepro.scoring import average_segments
from genrepro.trainer import Segments
from genrepro.training import Outcome

PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(8, -3, -1))  # 10^4 to 0.1
MOST_ITERATIONS = 10_000


def fit(model: PreTrainedModel, segments: dict[str, Segments], live: Live | None) -> Outcome:
    """Set `model`'s head to the probe of the "train" segments, in place.

    The penalty with the lowest loss on "validation" is kept: of few clips, a loss tells more than
    an accuracy. A clip weighs the same, however many segments it has.

    Args:
        segments: what the frozen backbone gave, as `frozen.recalled` yields it. One float64
            vector a segment is held in memory: 6 kB at 768 channels.
        live: where the figures go, as of a single epoch; None on all ranks but the first.

    Raises:
        PipelineError: the model's head is not linear.
    """
    head = Head(model)
    given = {name: head.vectors(part) for name, part in segments.items()}
    with threadpool_limits(1):  # sums over several threads differ in their last bits
        found = min(_regressions(given, segments), key=lambda probe: probe.loss["validation"])
    head.set(found.weight, found.bias)
    if live is not None:
        _log(live, found)
    return Outcome("penalty", found.penalty, found.accuracy, found.loss["validation"])


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
        """(segments, channels) float64: what the head hears of each segment."""
        outputs = (segments[row][0].astype(np.float64) for row in range(len(segments)))
        means = np.stack([output.reshape(-1, output.shape[-1]).mean(axis=0) for output in outputs])
        if self._norm is None:
            return means
        with torch.inference_mode():
            return self._norm(torch.from_numpy(means).float()).double().numpy()

    @torch.no_grad()
    def set(self, weight: np.ndarray, bias: np.ndarray) -> None:
        """Make the head `weight` (labels, channels) and `bias` (labels,).

        `backbone.build` gives a projector as many channels as there are labels: it is the probe,
        and the classifier behind it passes that on.
        """
        first, *behind = self._layers
        first.weight.copy_(torch.from_numpy(weight))
        first.bias.copy_(torch.from_numpy(bias))
        for classifier in behind:
            nn.init.eye_(classifier.weight)
            nn.init.zeros_(classifier.bias)


@dataclass(frozen=True)
class Probe:
    """A linear head, (labels, channels) and (labels,), and what it gives by clip."""

    penalty: float
    weight: np.ndarray
    bias: np.ndarray
    loss: dict[str, float]
    accuracy: float


def _regressions(given: dict[str, np.ndarray], segments: dict[str, Segments]):
    """A probe for each penalty, from the strongest to the weakest."""
    part = segments["train"].part
    clip_of, targets = np.array(part.clip_of), np.array(part.targets)
    weights = 1 / np.bincount(clip_of)[clip_of]
    scaler = StandardScaler().fit(given["train"], sample_weight=weights)
    scaled = scaler.transform(given["train"])
    solver = LogisticRegression(max_iter=MOST_ITERATIONS, warm_start=True)
    for penalty in PENALTIES:
        solver.set_params(C=1 / penalty).fit(scaled, targets[clip_of], sample_weight=weights)
        weight = _one_row_a_label(solver.coef_) / scaler.scale_
        bias = _one_row_a_label(solver.intercept_) - weight @ scaler.mean_
        logits = {
            name: average_segments(vectors @ weight.T + bias, np.array(segments[name].part.clip_of))
            for name, vectors in given.items()
        }
        yield _judged(penalty, weight, bias, logits, segments)


def _one_row_a_label(solution: np.ndarray) -> np.ndarray:
    """Of two labels scikit-learn keeps one row, the second label's less the first's."""
    return np.concatenate([-solution, solution]) / 2 if len(solution) == 1 else solution


def _judged(penalty, weight, bias, logits, segments: dict[str, Segments]) -> Probe:
    targets = {name: segments[name].part.targets for name in logits}
    loss = {name: _cross_entropy(logits[name], targets[name]) for name in logits}
    accuracy = float(accuracy_score(targets["validation"], logits["validation"].argmax(axis=1)))
    say(
        f"penalty {penalty:9.2f}  training loss {loss['train']:.3f}  validation loss "
        f"{loss['validation']:.3f}  accuracy {accuracy:.3f}"
    )
    return Probe(penalty, weight, bias, loss, accuracy)


def _cross_entropy(logits: np.ndarray, targets: list[int]) -> float:
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return float(log_loss(targets, probabilities, labels=range(logits.shape[1])))


def _log(live: Live, found: Probe) -> None:
    live.step = 1
    live.log_metric("train/loss", found.loss["train"])
    live.log_metric("validation/loss", found.loss["validation"])
    live.log_metric("validation/accuracy", found.accuracy)
    live.sync()
