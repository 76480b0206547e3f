"""How much a backbone knows about genres: a linear probe on labelled music of other bands."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import HubertModel

from pretraining.masked import normalized

BATCH = 16
FOLDS = 5


def accuracy(
    backbone: HubertModel, waves: np.ndarray, labels: list[str], groups: list[str]
) -> float:
    """Mean accuracy of logistic regression over FOLDS folds without a common band.

    Args:
        backbone: its layers' outputs, averaged over time, are the features.
        waves: (clips, samples) int16.
    """
    features = np.concatenate(
        [_features(backbone, waves[at : at + BATCH]) for at in range(0, len(waves), BATCH)]
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return float(
        cross_val_score(model, features, labels, groups=groups, cv=GroupKFold(FOLDS)).mean()
    )


@torch.inference_mode()
def _features(backbone: HubertModel, waves: np.ndarray) -> np.ndarray:
    training = backbone.training
    batch = normalized(waves).to(backbone.device)
    hidden = backbone.eval()(batch, output_hidden_states=True).hidden_states
    backbone.train(training)
    return torch.cat([layer.mean(dim=1) for layer in hidden], dim=1).cpu().numpy()
