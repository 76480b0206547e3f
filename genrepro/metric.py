"""Accuracy as a 🤗 Evaluate metric that lives here: evaluate.load would fetch it from the Hub."""

from __future__ import annotations

import datasets
import evaluate
from sklearn.metrics import accuracy_score


class ClipAccuracy(evaluate.Metric):
    """The share of clips whose predicted label is the true one; works without network.

    `ClipAccuracy().compute(predictions=[0, 1], references=[0, 0])` is `{"accuracy": 0.5}`.
    """

    def _info(self) -> evaluate.MetricInfo:
        whole = datasets.Features(
            {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
        )
        return evaluate.MetricInfo(
            description="Share of clips whose predicted label is the true one.",
            citation="",
            inputs_description="predictions, references: label indices, one a clip.",
            features=whole,
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}
