"""Metrics against scikit-learn and formulas; intervals by their coverage."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.metrics import f1_score, log_loss

from genrepro.evaluation.intervals import wilson
from genrepro.evaluation.scoring import (
    calibration_error,
    fit_temperature,
    headline,
    mistakes,
    reliability,
    score,
)
from genrepro.model.inference import average_segments

LABELS = ["blues", "jazz", "métal", "rock"]


def frame(clips: int, seed: int = 0, per_group: int = 0, sharpness: float = 1.0) -> pd.DataFrame:
    """Random predictions, perfectly calibrated at sharpness 1."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(len(LABELS), 0.5), size=clips)
    true = [LABELS[rng.choice(len(LABELS), p=row)] for row in p]
    p = softmax(sharpness * np.log(p + 1e-9), axis=1)
    return pd.DataFrame(
        {
            "clip": [f"clip {i:05d}" for i in range(clips)],
            "label": true,
            "group": [f"g{i // per_group}" if per_group else "" for i in range(clips)],
            "predicted": [LABELS[i] for i in p.argmax(axis=1)],
            **{f"p_{label}": p[:, i] for i, label in enumerate(LABELS)},
        }
    )


def figures(table: pd.DataFrame, labels=LABELS) -> dict:
    return score(table, labels, 0.95)


def test_the_headline_has_the_interval_by_group_where_there_are_groups():
    result = figures(frame(40, per_group=4)) | {
        "accuracy": 0.925,
        "accuracy_interval": {"low": 0.801, "high": 0.974},
        "accuracy_by_group_interval": {"low": 0.586, "high": 0.999},
    }
    by_clip = "test accuracy 0.925, 95% interval 0.801 to 0.974, on 40 clips"
    assert headline(result, 0.95) == f"{by_clip}; by group 0.586 to 0.999, on 10 groups"
    assert headline(result | {"units": 40}, 0.95) == by_clip
    one_group = figures(frame(40, per_group=40))
    assert "by group" not in headline(one_group, 0.95) and one_group["units"] == 1


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 150), st.integers(0, 2**32 - 1))
def test_metrics_equal_those_of_scikit_learn(clips, seed):
    table = frame(clips, seed)
    result = figures(table)
    json.dumps(result, allow_nan=False)
    true, predicted = table["label"], table["predicted"]
    assert result["accuracy"] == pytest.approx((true == predicted).mean(), abs=1e-6)
    macro = f1_score(true, predicted, labels=LABELS, average="macro", zero_division=np.nan)
    assert result["macro_f1"] == pytest.approx(macro, abs=1e-6)
    p = table[[f"p_{label}" for label in LABELS]].to_numpy()
    assert result["loss"] == pytest.approx(log_loss(true, p, labels=LABELS), abs=1e-5)
    for label in LABELS:
        hits, size = ((true == label) & (predicted == label)).sum(), (true == label).sum()
        found = result["labels"][label]
        assert found["clips"] == size
        assert found["recall"] == (pytest.approx(hits / size, abs=1e-6) if size else None)
        guesses = (predicted == label).sum()
        assert found["precision"] == (pytest.approx(hits / guesses, abs=1e-6) if guesses else None)
        assert found["recall_interval"] == wilson(hits, size, 0.95)
    assert result["accuracy_interval"] == wilson((true == predicted).sum(), clips, 0.95)


def test_the_interval_of_the_course_accuracy():
    interval = wilson(83, 100, 0.95)
    assert (round(interval["low"], 3), round(interval["high"], 3)) == (0.745, 0.891)
    assert wilson(0, 0, 0.95) == {"low": None, "high": None}


def test_the_calibration_error_matches_the_reliability_rows():
    table = frame(400, sharpness=2)
    rows = pd.DataFrame(reliability(table, 0.95))
    assert rows["clips"].sum() == 400
    for row in rows.to_dict("records"):
        found = wilson(round(row["accuracy"] * row["clips"]), row["clips"], 0.95)
        assert {end: row[end] for end in ("low", "high")} == found
    gaps = (rows["confidence"] - rows["accuracy"]).abs() * rows["clips"] / 400
    assert figures(table)["calibration_error"] == pytest.approx(gaps.sum(), abs=1e-5)
    assert calibration_error(table) == figures(table)["calibration_error"]


def test_full_confidence_right_and_wrong():
    right = pd.DataFrame(
        {
            "clip": ["a", "b"], "label": LABELS[:2], "group": None, "predicted": LABELS[:2],
            "p_blues": [1.0, 0.0], "p_jazz": [0.0, 1.0], "p_métal": 0.0, "p_rock": 0.0,
        }
    )  # fmt: skip
    result = figures(right)
    assert (result["accuracy"], result["macro_f1"], result["loss"]) == (1, 1, 0)
    assert result["calibration_error"] == 0
    assert result["labels"]["rock"]["recall"] is None
    wrong = right.assign(predicted=LABELS[1::-1], label=LABELS[1::-1])
    wrong = wrong.assign(label=LABELS[:2], p_blues=[0.0, 1.0], p_jazz=[1.0, 0.0])
    assert figures(wrong)["calibration_error"] == 1
    assert figures(wrong)["loss"] == pytest.approx(-np.log(1e-12), abs=1e-5)


def test_groups_widen_the_interval():
    """Groups of twenty clips that are all right or all wrong widen the interval by √20."""
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(50) < 0.7, 20)
    table = frame(1000, per_group=20)
    other = {"blues": "jazz", "jazz": "métal", "métal": "rock", "rock": "blues"}
    table["predicted"] = [x if ok else other[x] for x, ok in zip(table["label"], right)]

    def width(interval):
        return interval["high"] - interval["low"]

    grouped, alone = figures(table), figures(table.assign(group=""))
    ratio = width(grouped["accuracy_by_group_interval"]) / width(
        alone["accuracy_by_group_interval"]
    )
    assert ratio == pytest.approx(np.sqrt(20), rel=0.2)
    assert width(grouped["accuracy_interval"]) == width(alone["accuracy_interval"])
    assert (grouped["units"], alone["units"]) == (50, 1000)


def test_independent_clips_have_almost_the_interval_of_wilson():
    result = figures(frame(1000))
    for end in ("low", "high"):
        assert result["accuracy_by_group_interval"][end] == pytest.approx(
            result["accuracy_interval"][end], abs=0.004
        )


@pytest.mark.parametrize("groups", [2, 3, 5])
def test_few_groups_of_equal_accuracy_have_a_wide_interval(groups):
    """Resampling such groups gave an interval of width 0."""
    table = frame(10 * groups).assign(
        label="blues",
        predicted=["blues"] * 8 * groups + ["jazz"] * 2 * groups,
        group=[f"g{i % groups}" for i in range(10 * groups)],
    )
    result = figures(table)
    low, high = result["accuracy_by_group_interval"].values()
    assert low < 0.6 and high > 0.9
    none = {"low": None, "high": None}
    assert result["macro_f1_interval"] == result["loss_interval"] == none


def test_a_single_group_has_no_interval():
    result = figures(frame(20).assign(group="one band"))
    assert result["accuracy_by_group_interval"] == {"low": None, "high": None}


def test_the_same_predictions_in_any_order_give_the_same_figures():
    table = frame(120, per_group=4)
    assert figures(table.sample(frac=1, random_state=1)) == figures(table)


def test_a_temperature_corrects_overconfidence():
    rng = np.random.default_rng(0)
    calibrated = rng.normal(0, 2, (3000, 5))
    targets = np.array([rng.choice(5, p=row) for row in softmax(calibrated, axis=1)])
    for factor in (0.5, 1.0, 3.0):
        assert fit_temperature(factor * calibrated, targets) == pytest.approx(factor, rel=0.07)
    found = fit_temperature(3 * calibrated, targets)

    def loss(t):
        return -log_softmax(3 * calibrated / t, axis=1)[np.arange(3000), targets].mean()

    assert loss(found) <= min(loss(found * 0.98), loss(found * 1.02))


def test_the_temperature_is_bounded_where_all_clips_are_right():
    for clips in (4, 60):
        targets = np.arange(clips) % 4
        logits = 3 * np.eye(4, dtype=np.float32)[targets]
        confidence = softmax(logits[0] / fit_temperature(logits, targets)).max()
        assert confidence == pytest.approx((clips + 1) / (clips + 2), abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_averaged_segments_multiply_their_probabilities(clips, seed):
    rng = np.random.default_rng(seed)
    index = np.r_[np.arange(clips), rng.integers(0, clips, 10)]
    logits = rng.normal(0, 3, (len(index), 3)).astype(np.float32)
    averaged = average_segments(logits, index)
    assert averaged.shape == (clips, 3) and averaged.dtype == np.float32
    for clip in range(clips):
        together = log_softmax(logits[index == clip].astype(float), axis=1).mean(axis=0)
        assert np.allclose(softmax(averaged[clip]), softmax(together), atol=1e-5)


def test_the_most_confident_mistakes_come_first():
    table = frame(200).assign(path=lambda t: "data/raw/" + t["clip"])
    worst = mistakes(table, 7)
    assert list(worst) == ["clip", "path", "label", "predicted", "probability"]
    assert len(worst) == 7
    assert (worst["label"] != worst["predicted"]).all()
    assert worst["probability"].is_monotonic_decreasing
    wrong = table[table["label"] != table["predicted"]]
    assert worst["probability"][0] == wrong[[f"p_{x}" for x in LABELS]].max(axis=None)
    assert mistakes(table.assign(predicted=table["label"]), 7).empty


@pytest.mark.parametrize("right", [True, False])
def test_all_right_does_not_prove_a_perfect_model(right):
    """The variance is 0 there; the interval of as many trials as there are groups is not."""
    table = frame(40, per_group=4)
    others = {label: LABELS[(i + 1) % len(LABELS)] for i, label in enumerate(LABELS)}
    table["predicted"] = table["label"] if right else table["label"].map(others)
    low, high = figures(table)["accuracy_by_group_interval"].values()
    assert (high, low) == ((1, pytest.approx(0.025**0.1, abs=1e-6)) if right else
                           (pytest.approx(1 - 0.025**0.1, abs=1e-6), 0))  # fmt: skip
