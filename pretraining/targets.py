"""What the model is to predict for a masked frame: the cluster of its log-mel spectrum."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from transformers.audio_utils import mel_filter_bank

WINDOW, HOP = 400, 320  # samples, as the backbone's convolutions see them: 25 ms every 20 ms
BANDS = 40
CHUNK = 100  # clips at once
FITTED = 200_000  # frames on which the clusters are fitted


def clusters(waves: np.ndarray, rate: int, count: int, seed: int) -> np.ndarray:
    """Cluster the frames of all clips by k-means, as HuBERT's first iteration does with MFCC.

    Args:
        waves: (clips, samples) int16.

    Returns:
        (clips, frames) int16, from 0 to `count` - 1.
    """
    spectra = np.concatenate(list(_log_mel(waves, rate)))
    frames = spectra.reshape(-1, BANDS)
    frames = (frames - frames.mean(axis=0)) / frames.std(axis=0)
    chosen = np.random.default_rng(seed).permutation(len(frames))[:FITTED]
    means = MiniBatchKMeans(count, random_state=seed, batch_size=8192, n_init=1)
    means.fit(frames[chosen])
    return means.predict(frames).astype(np.int16).reshape(spectra.shape[:2])


def _log_mel(waves: np.ndarray, rate: int) -> Iterator[np.ndarray]:
    """(clips, frames, bands) float32 of each chunk of clips."""
    filters = mel_filter_bank(WINDOW // 2 + 1, BANDS, 50, rate / 2, rate).astype(np.float32)
    window = np.hanning(WINDOW).astype(np.float32)
    for start in range(0, len(waves), CHUNK):
        scaled = waves[start : start + CHUNK].astype(np.float32) / 2**15
        framed = np.lib.stride_tricks.sliding_window_view(scaled, WINDOW, axis=1)[:, ::HOP]
        power = np.abs(np.fft.rfft(framed * window)) ** 2
        yield np.log(power.astype(np.float32) @ filters + 1e-6)
