"""Figures of the validation clips, and how they rank the epochs.

They are a 🤗 Evaluate metric of our own: `evaluate.load` would download one from the Hub.
"""

from __future__ import annotations

import math

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score


class ClipFigures(evaluate.Metric):
    """The share of clips whose predicted label is the true one, and the mean of the labels' F1.

    `ClipFigures().compute(predictions=[0, 1], references=[0, 0])` is
    `{"accuracy": 0.5, "macro_f1": 0.333…}`.
    """

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="Accuracy, and macro F1 over labels that are present or predicted.",
            citation="",
            inputs_description="predictions, references: label indices, one per clip.",
            features=datasets.Features({"predictions": label, "references": label}),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "macro_f1": float(f1_score(references, predictions, average="macro")),
        }


def selection(by: str, figures: dict[str, float], clips: int) -> float:
    """Rank an epoch by one of its figures, and equals by the lower loss.

    Args:
        by: "accuracy", "macro_f1" or "loss".
        figures: all three.
        clips: the number of validation clips. What the loss adds to the accuracy stays below half
            of what a single clip is worth.
    """
    if by == "loss":
        return -figures["loss"]
    return figures[by] + math.exp(-figures["loss"]) / (2 * clips if by == "accuracy" else 1e6)
