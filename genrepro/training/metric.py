"""Accuracy as a 🤗 Evaluate metric of our own: `evaluate.load` would download one from the Hub."""

from __future__ import annotations

import datasets
import evaluate
from sklearn.metrics import accuracy_score


class ClipAccuracy(evaluate.Metric):
    """The share of clips whose predicted label is the true one.

    `ClipAccuracy().compute(predictions=[0, 1], references=[0, 0])` is `{"accuracy": 0.5}`.
    """

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="Share of clips whose predicted label is the true one.",
            citation="",
            inputs_description="predictions, references: label indices, one per clip.",
            features=datasets.Features({"predictions": label, "references": label}),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}
