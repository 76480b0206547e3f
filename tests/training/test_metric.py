"""The accuracy of validation, computed by 🤗 Evaluate without a network."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrepro.training.metric import ClipFigures, selection


def test_accuracy_is_the_share_of_right_predictions_and_needs_no_hub(in_tmp):
    metric = ClipFigures(keep_in_memory=True)
    found = metric.compute(predictions=np.array([0, 1, 2, 2]), references=[0, 1, 1, 2])
    assert found == {"accuracy": 0.75, "macro_f1": pytest.approx((1 + 2 / 3 + 2 / 3) / 3)}
    assert metric.compute(predictions=[1], references=[0]) == {"accuracy": 0.0, "macro_f1": 0.0}


EPOCHS = {  # accuracy, macro F1, loss
    "many right": (0.9, 0.4, 0.7),
    "as many, and more confident": (0.9, 0.4, 0.6),
    "rare labels too": (0.8, 0.7, 0.9),
    "few and careful": (0.5, 0.3, 0.5),
}


@pytest.mark.parametrize(
    ("by", "best"),
    [
        ("accuracy", "as many, and more confident"),
        ("macro_f1", "rare labels too"),
        ("loss", "few and careful"),
    ],
)
def test_the_epoch_to_keep_is_chosen_by_one_figure(by, best):
    figures = {
        name: dict(zip(("accuracy", "macro_f1", "loss"), values)) for name, values in EPOCHS.items()
    }
    assert max(figures, key=lambda name: selection(by, figures[name], clips=10)) == best


@given(st.integers(0, 99), st.floats(0, 20), st.floats(0, 20))
def test_no_loss_outweighs_a_clip(right, low, high):
    one, more = (
        {"accuracy": n / 100, "loss": loss} for n, loss in ((right, low), (right + 1, high))
    )
    assert selection("accuracy", one, 100) < selection("accuracy", more, 100)
