"""Random changes to the training segments, drawn again in each epoch: augment and SpecAugment.

They start from what `encode` stored, and are made while a batch is loaded. What a segment becomes
depends on the seed, the epoch and the segment alone: not on the processes that share the work, and
not on where a run was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from transformers import PreTrainedModel
from transformers import SequenceFeatureExtractor as Extractor

from genrepro.core import processes
from genrepro.core.params import Train
from genrepro.model.backbone import masks_itself
from genrepro.training.data import IGNORED, Sample, Segments
from genrepro.training.sounds import Domain, domain_of

CHANCE = 0.5  # that a segment gets each change; all are mixed under mixup
SHIFT_SECONDS, SHIFT_SHARE = 0.5, 0.25  # at most, either way; and at most this share of a segment
GAIN = 12.0  # dB at most, either way
SNR = (5.0, 30.0)  # dB
CUTOFF = (0.3, 0.95)  # of half the sampling rate: 2.4 to 7.6 kHz of 8
MIXUP_ALPHA = 0.4  # the largest that Zhang et al. (2018), mixup, found to help
# At most, of the frames and of the bands: AST's 96 of 512 and 24 of 128 for ESC-50 (Gong et al.
# 2021, https://arxiv.org/abs/2104.01778).
MASKED = 3 / 16


def augmenter(
    extractor: Extractor, model: PreTrainedModel, segments: Segments, train: Train, seed: int
) -> Augmenter | None:
    """What changes the training segments as `train` asks, or None if nothing does.

    Raises:
        PipelineError: the feature extractor's features cannot be changed so.
    """
    masked = bool(train.spec_augment) and not masks_itself(model)
    if not train.augment and not masked:
        return None
    domain = domain_of(extractor, train.augment)
    return Augmenter(domain, train.augment, masked, segments, model.config.num_labels, seed)


class Augmenter:
    """Changes samples of `segments`, with random numbers of its own for each epoch and segment."""

    def __init__(
        self,
        domain: Domain,
        names: Iterable[str],
        masked: bool,
        segments: Segments,
        labels: int,
        seed: int,
    ) -> None:
        """labels: how many there are; masked: whether to mask frames and bands."""
        self.domain, self.names, self.masked = domain, set(names), masked
        self.segments, self.labels, self.seed = segments, labels, seed
        self.threads = ThreadPoolExecutor(processes.workers())  # NumPy computes side by side

    def __call__(self, samples: list[Sample]) -> list[Sample]:
        return list(self.threads.map(self.changed, samples))

    def changed(self, sample: Sample) -> Sample:
        """The sample changed; under mixup its target becomes a share for each label."""
        random = np.random.default_rng([self.seed, sample.draw.epoch, sample.draw.segment])
        features, target = sample.features, sample.target
        mixed = "mixup" in self.names
        chosen = [name for name in CHANGES if name in self.names and random.random() < CHANCE]
        if mixed or chosen:
            sound = self.domain.read(features, random)
            if mixed:
                sound, target = self._mixed(sound, target, random)
            for name in chosen:
                sound = CHANGES[name](self.domain, sound, random)
            features = self.domain.write(sound, features)
        if self.masked:
            features = mask(features, random)
        return sample._replace(features=features, target=target)

    def _mixed(
        self, sound: np.ndarray, target: int | np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mix in another training segment: equally loud first, then each by its label's share."""
        index = int(random.integers(len(self.segments)))
        share = random.beta(MIXUP_ALPHA, MIXUP_ALPHA)
        share = max(share, 1 - share)
        domain, part = self.domain, self.segments.part
        other = domain.read(self.segments.features(index), random)
        start = int(random.integers(max(0, len(other) - len(sound)) + 1))
        other = other[start : start + len(sound)]
        mine, its = domain.power(sound), domain.power(other)
        if min(mine, its) <= 0:
            share = 1.0
        else:
            level = (1 - share) * np.sqrt(mine / its)
            mixture = np.float32(share**domain.order) * sound
            mixture[: len(other)] += np.float32(level**domain.order) * other
            sound = mixture / np.float32(np.hypot(share, 1 - share) ** domain.order)
        if target == IGNORED:
            return sound, np.full(self.labels, IGNORED, np.float32)
        shares = np.zeros(self.labels, np.float32)
        shares[target] = share
        shares[part.targets[part.clip_of[index]]] += np.float32(1 - share)
        return sound, shares


def shift(domain: Domain, sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shift it in time, wrapping around."""
    most = min(SHIFT_SECONDS * domain.rate, SHIFT_SHARE * len(sound))
    return np.roll(sound, int(random.integers(-int(most), int(most) + 1)), axis=0)


def gain(domain: Domain, sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return sound * np.float32(10 ** (domain.order * random.uniform(-GAIN, GAIN) / 20))


def noise(domain: Domain, sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Add white or pink noise; none to silence."""
    added = domain.noise(sound, random)
    ratio = domain.power(sound) / max(domain.power(added), 1e-30)
    ratio *= 10 ** (-random.uniform(*SNR) / 10)
    return sound + np.float32(ratio ** (domain.order / 2)) * added


def band_limit(domain: Domain, sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Remove high frequencies, as telephones and encoders at low bit rates do."""
    return domain.limit(sound, domain.highest * random.uniform(*CUTOFF))


# In the order of a recording: where the source is, how loud, what is beside it, how it is encoded.
CHANGES = {"shift": shift, "gain": gain, "noise": noise, "band_limit": band_limit}


def mask(features: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Replace a stretch along each axis, of up to MASKED of it, by the mean: SpecAugment.

    After Park et al. 2019, https://arxiv.org/abs/1904.08779.
    """
    features = features.astype(np.float32)
    mean = features.mean()
    for axis, size in enumerate(features.shape):
        width = int(random.integers(int(MASKED * size) + 1))
        start = int(random.integers(size - width + 1))
        np.moveaxis(features, axis, 0)[start : start + width] = mean
    return features
