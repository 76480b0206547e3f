"""Score predictions: metrics with intervals, a temperature, and the most confident mistakes.

A frame of predictions has one row per clip and the columns clip, label, group (empty if unknown),
predicted, and p_<label> for each label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import precision_recall_fscore_support

from genrepro.evaluation.intervals import (
    NO_INTERVAL,
    clusters,
    jackknife,
    positive,
    proportion,
    unit_sums,
    wilson,
)

BINS = 15  # of equal width, as in Guo et al., On Calibration of Modern Neural Networks (2017)
FEWEST_UNITS = 20  # for an interval of macro F1 or loss: with fewer it would miss too often
_SMALLEST = 1e-12  # replaces a probability that was written as 0


def predictions(clips: pd.DataFrame, logits: np.ndarray, labels: Sequence[str]) -> pd.DataFrame:
    """A frame of predictions.

    Args:
        clips: one row per clip: clip, path, label, group.
        logits: (clips, labels).

    Returns:
        The same with predicted, and each label's probability, to six digits.
    """
    probabilities = softmax(logits.astype(np.float64), axis=1).round(6)
    columns = {f"p_{label}": probabilities[:, index] for index, label in enumerate(labels)}
    return clips.assign(predicted=[labels[best] for best in logits.argmax(axis=1)], **columns)


def score(frame: pd.DataFrame, labels: Sequence[str], confidence: float) -> dict[str, Any]:
    """Compute the metrics of a set of predictions, with intervals.

    Args:
        frame: the predictions.
        labels: all labels, in the model's order.
        confidence: level of the intervals, e.g. 0.95.

    Returns:
        The content of metrics/test.json. `accuracy_interval` is Wilson's, which assumes independent
        clips; `accuracy_by_group_interval` and the others allow for groups where they are known.
        `macro_f1` averages over labels that are present or predicted. `loss` is the mean of -ln p
        of the true label. Both have an interval from FEWEST_UNITS groups (or clips without one) on.
        `calibration_error` is the expected calibration error over 15 bins of equal width; with few
        clips it is above 0 even for a perfectly calibrated model, so an interval around it would
        not contain the truth. Per label: clips, precision, recall with Wilson's interval, and F1;
        None where undefined.
    """
    columns, statistic = _sums(frame, labels)
    units = clusters(frame["clip"].tolist(), frame["group"].fillna("").astype(str).tolist())
    accuracy, macro_f1, loss = jackknife(unit_sums(columns, units), statistic)
    correct = int((frame["label"] == frame["predicted"]).sum())
    enough = accuracy.units >= FEWEST_UNITS
    return {
        "clips": len(frame),
        "units": accuracy.units,
        "accuracy": _rounded(accuracy.value),
        "accuracy_interval": wilson(correct, len(frame), confidence),
        "accuracy_by_group_interval": proportion(accuracy, confidence),
        "macro_f1": _rounded(macro_f1.value),
        "macro_f1_interval": proportion(macro_f1, confidence) if enough else NO_INTERVAL,
        "loss": _rounded(loss.value),
        "loss_interval": positive(loss, confidence) if enough else NO_INTERVAL,
        "calibration_error": calibration_error(frame),
        "labels": _per_label(frame, labels, confidence),
    }


def headline(result: dict[str, Any], confidence: float) -> str:
    """The accuracy that `score` found, with its interval, and the one by group if there are any."""

    def between(interval: dict[str, float]) -> str:
        return f"{interval['low']:.3f} to {interval['high']:.3f}"

    by_clip, by_group = result["accuracy_interval"], result["accuracy_by_group_interval"]
    said = f"test accuracy {result['accuracy']:.3f}, {confidence:.0%} interval {between(by_clip)}, "
    said += f"on {result['clips']} clips"
    if result["units"] == result["clips"] or by_group["low"] is None:
        return said
    return f"{said}; by group {between(by_group)}, on {result['units']} groups"


def calibration_error(frame: pd.DataFrame) -> float | None:
    """The expected calibration error, as in `score`."""
    confidences, correct, bins = _confidences(frame)
    gaps = np.bincount(bins, correct - confidences)
    return _rounded(np.abs(gaps).sum() / len(frame))


def reliability(frame: pd.DataFrame, confidence: float) -> list[dict[str, float | None]]:
    """Rows for a plot of accuracy against confidence, one per bin that has clips.

    Each has the means of its clips, how many they are, and Wilson's interval of the accuracy.

    Args:
        frame: the predictions.
        confidence: level of the intervals.
    """
    confidences, correct, bins = _confidences(frame)
    return [
        {
            "confidence": _rounded(confidences[inside].mean()),
            "accuracy": _rounded(correct[inside].mean()),
            **wilson(int(correct[inside].sum()), int(inside.sum()), confidence),
            "clips": int(inside.sum()),
        }
        for inside in (bins == b for b in np.unique(bins))
    ]


def mistakes(frame: pd.DataFrame, count: int) -> pd.DataFrame:
    """The most confident mistakes first: clip, label, predicted and the latter's probability.

    A column `path` is kept if the frame has one.
    """
    wrong = frame[frame["label"] != frame["predicted"]].copy()
    wrong["probability"] = _confidences(wrong)[0]
    wrong = wrong.sort_values(["probability", "clip"], ascending=[False, True], kind="stable")
    kept = ["clip", *(["path"] if "path" in frame else []), "label", "predicted", "probability"]
    return wrong[kept].head(count).reset_index(drop=True)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Fit the temperature to divide logits by, so that probabilities are better calibrated.

    It minimises the loss on clips that the model was not trained on (Guo et al. 2017). With n clips
    the target probability of the true label is (n + 1)/(n + 2) instead of 1, after Platt (1999):
    otherwise the optimum would be 0 where all clips are right, and a later mistake would have an
    unbounded loss.

    Args:
        logits: (clips, labels).
        targets: (clips,), the index of each clip's label.

    Returns:
        A number from 0.05 to 20.
    """
    count, labels = logits.shape
    wanted = np.full(logits.shape, 1 / ((count + 2) * max(labels - 1, 1)))
    wanted[np.arange(count), targets] = (count + 1) / (count + 2)

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        return float(-np.mean(np.sum(wanted * log_softmax(scaled, axis=1), axis=1)))

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return round(float(np.exp(found.x)), 4)


def _sums(frame: pd.DataFrame, labels: Sequence[str]):
    """Per-clip columns, and accuracy, macro F1 and loss as a function of their sums."""
    size = len(labels)
    true = frame["label"].to_numpy()[:, None] == np.array(labels)
    predicted = frame["predicted"].to_numpy()[:, None] == np.array(labels)
    probabilities = frame[[f"p_{label}" for label in labels]].to_numpy()
    losses = -np.log(np.maximum((probabilities * true).sum(axis=1), _SMALLEST))
    correct = (true & predicted).any(axis=1)
    columns = np.column_stack(
        [np.ones(len(frame)), correct, losses, true & predicted, true, predicted]
    )

    def statistic(sums: np.ndarray) -> np.ndarray:
        clips, right, loss = sums[..., 0], sums[..., 1], sums[..., 2]
        hits, held, called = np.split(sums[..., 3:], [size, 2 * size], axis=-1)
        present = held + called > 0
        f1 = np.divide(2 * hits, held + called, out=np.zeros_like(hits), where=present)
        macro_f1 = f1.sum(axis=-1) / present.sum(axis=-1)
        return np.stack([right / clips, macro_f1, loss / clips])

    return columns.astype(np.float64), statistic


def _per_label(frame: pd.DataFrame, labels: Sequence[str], confidence: float) -> dict:
    true, predicted = frame["label"], frame["predicted"]
    table = precision_recall_fscore_support(
        true, predicted, labels=list(labels), zero_division=np.nan
    )
    hits = (true[true == predicted]).value_counts()
    return {
        label: {
            "clips": int(clips),
            "precision": _rounded(precision),
            "recall": _rounded(recall),
            "recall_interval": wilson(int(hits.get(label, 0)), int(clips), confidence),
            "f1": _rounded(f1),
        }
        for label, precision, recall, f1, clips in zip(labels, *table)
    }


def _confidences(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each clip's probability of the predicted label, whether that is right, and its bin."""
    columns = [name for name in frame.columns if name.startswith("p_")]
    predicted = pd.Index(columns).get_indexer(["p_" + name for name in frame["predicted"]])
    confidences = frame[columns].to_numpy(dtype=np.float64)[np.arange(len(frame)), predicted]
    correct = (frame["label"] == frame["predicted"]).to_numpy().astype(np.float64)
    bins = np.clip(np.ceil(confidences * BINS).astype(int) - 1, 0, BINS - 1)
    return confidences, correct, bins


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
