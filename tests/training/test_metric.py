"""The accuracy of validation, computed by 🤗 Evaluate without a network."""

import numpy as np

from genrepro.training.metric import ClipAccuracy


def test_accuracy_is_the_share_of_right_predictions_and_needs_no_hub(in_tmp):
    metric = ClipAccuracy(keep_in_memory=True)
    assert metric.compute(predictions=np.array([0, 1, 2, 2]), references=[0, 1, 1, 2]) == {
        "accuracy": 0.75
    }
    assert metric.compute(predictions=[1], references=[0]) == {"accuracy": 0.0}
