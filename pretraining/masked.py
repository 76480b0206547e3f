"""HuBERT's pretraining, masked prediction of clusters (Hsu et al. 2021, arXiv:2106.07447)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm
from transformers import HubertConfig, HubertModel, get_linear_schedule_with_warmup

from genrepro.model.convolution import use_fourier_convolutions

SOFTNESS = 0.1  # cosine similarities are divided by it, as in the paper


class MaskedPrediction(nn.Module):
    """A HuBERT, and for each frame the similarity of its output to each cluster's embedding."""

    def __init__(self, config: HubertConfig, clusters: int) -> None:
        super().__init__()
        self.backbone = HubertModel(config)
        self.projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.embeddings = nn.Embedding(clusters, config.hidden_size)
        use_fourier_convolutions(self.backbone)

    def forward(self, waves: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """(batch, samples) and (batch, frames) bool to logits (masked frames, clusters)."""
        hidden = self.backbone(waves, mask_time_indices=masked).last_hidden_state
        frames = functional.normalize(self.projection(hidden[masked]), dim=-1)
        return frames @ functional.normalize(self.embeddings.weight, dim=-1).T / SOFTNESS


def pretrain(
    config: HubertConfig,
    waves: np.ndarray,
    targets: np.ndarray,
    params: dict,
    device: str,
    report: Callable[[int, float, HubertModel], None],
) -> HubertModel:
    """Pretrain a new backbone.

    Args:
        waves: (clips, samples) int16.
        targets: (clips, frames), each frame's cluster.
        params: backbones/mini-distilhubert/params.yaml.
        report: called before the first step and after every `probe.every` steps with the step, the
            mean loss since the last call and the backbone.

    Returns:
        The backbone, on the CPU.
    """
    torch.manual_seed(params["seed"])
    config.apply_spec_augment = True  # else transformers masks nothing
    model = MaskedPrediction(config, params["clusters"]).to(device).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), params["learning_rate"], betas=(0.9, 0.98), weight_decay=0.01
    )
    steps = params["steps"]
    schedule = get_linear_schedule_with_warmup(optimizer, round(params["warmup"] * steps), steps)
    losses = []
    report(0, float("nan"), model.backbone)
    batches = _batches(waves, targets, params)
    for step in tqdm(range(1, steps + 1), "pretraining", disable=None):
        wave, masked, wanted = (tensor.to(device) for tensor in next(batches))
        loss = functional.cross_entropy(model(wave, masked), wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        if step % params["probe"]["every"] == 0:
            report(step, torch.stack(losses).mean().item(), model.backbone)
            losses.clear()
    return model.backbone.cpu().eval()


def _batches(
    waves: np.ndarray, targets: np.ndarray, params: dict
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Endless batches: waves, masks, and the clusters of the masked frames."""
    rng, size = np.random.default_rng(params["seed"]), params["batch_size"]
    while True:
        order = rng.permutation(len(waves))
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            masked = _mask(rng, targets[rows].shape, params)
            wanted = torch.from_numpy(targets[rows][masked].astype(np.int64))
            yield normalized(waves[rows]), torch.from_numpy(masked), wanted


def _mask(rng: np.random.Generator, shape: tuple[int, ...], params: dict) -> np.ndarray:
    """Masks of `mask_frames` each, which may overlap: (batch, frames) bool."""
    starts = rng.random(shape) < params["mask_starts"]
    masked = starts.copy()
    for later in range(1, params["mask_frames"]):
        masked[:, later:] |= starts[:, :-later]
    return masked


def normalized(waves: np.ndarray) -> torch.Tensor:
    """Zero mean and unit variance per clip, as the feature extractor does it: float32."""
    scaled = torch.from_numpy(waves.astype(np.float32))
    scaled -= scaled.mean(dim=1, keepdim=True)
    return scaled / (scaled.var(dim=1, correction=0, keepdim=True) + 1e-7).sqrt()
