"""Changes of training segments: each does to features what it would have done to the recording."""

import numpy as np
import pytest
import torch
from transformers import (
    ASTFeatureExtractor,
    SeamlessM4TFeatureExtractor,
    SequenceFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from genrepro.core.errors import PipelineError
from genrepro.core.params import load
from genrepro.encoding.extractor import adapt, extract_segments
from genrepro.encoding.parts import Part
from genrepro.training import augment
from genrepro.training.data import IGNORED, Collator, Draw, Segments
from genrepro.training.sounds import SLOPE, domain_of
from tests.support.samples import RATE, ROOT

ENCODE = load(ROOT / "params.yaml").encode
SECONDS = 3.0
KINDS = {
    "waveform": Wav2Vec2FeatureExtractor,
    "raw waveform": Wav2Vec2FeatureExtractor,
    "ast": ASTFeatureExtractor,
    "whisper": WhisperFeatureExtractor,
    "w2v-bert": SeamlessM4TFeatureExtractor,
}
SPECTRA = ("ast", "whisper")
ALL = ("shift", "gain", "noise", "band_limit", "mixup")


def music(seed: int, seconds: float = SECONDS) -> np.ndarray:
    """Notes with overtones over faint noise, whose power falls with frequency; (samples,)."""
    random, time = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    wave = random.normal(0, 0.01, len(time))
    for start in np.arange(0, seconds, 0.25):
        pitch, now = random.uniform(100, 800), time >= start
        fade = np.exp(-4 * (time[now] - start))
        for overtone in range(1, 9):
            wave[now] += 0.2 / overtone * np.sin(2 * np.pi * overtone * pitch * time[now]) * fade
    return wave.astype(np.float32)


class Kind:
    """A feature extractor adapted to clips of SECONDS, and its domain."""

    def __init__(self, name: str) -> None:
        encode = ENCODE.model_copy(update={"normalize": name != "raw waveform"})
        self.name = name
        self.extractor = adapt(KINDS[name](), encode, SECONDS)
        self.domain = domain_of(self.extractor, [])

    def features(self, wave: np.ndarray) -> np.ndarray:
        (segment,) = extract_segments(self.extractor, wave)
        return segment

    def sound(self, wave: np.ndarray) -> np.ndarray:
        return self.domain.read(self.features(wave), always)


class Always:
    """Chance, with a result that is known."""

    def __init__(self, number: float) -> None:
        self.number, self.real = number, np.random.default_rng(5)

    def random(self) -> float:
        return self.number

    def uniform(self, low: float, high: float) -> float:
        return low + self.number * (high - low)

    def __getattr__(self, name: str):
        return getattr(self.real, name)


always = Always(0.9)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return Kind(request.param)


@pytest.fixture(scope="module", params=SPECTRA)
def spectra(request):
    return Kind(request.param)


def decibels(kind: Kind, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How much louder each cell of `one` is than that of `other`; both as stored."""
    per_unit = 10 / np.log(10) * kind.domain.scale
    return (one.astype(np.float32) - other) * per_unit


@pytest.mark.parametrize("seconds", [SECONDS, 2.3])
def test_what_is_read_is_written_as_it_was(kind, seconds):
    """Also where a shorter clip was padded, or silent."""
    for wave in (music(1, seconds), np.zeros(round(seconds * RATE), np.float32)):
        stored = kind.features(wave)
        written = kind.domain.write(kind.domain.read(stored, always), stored)
        assert written.shape == stored.shape and written.dtype == np.float32
        assert np.abs(written - stored).max() < 0.02


def test_noise_has_the_level_that_was_asked_for(kind):
    if "noise" in kind.domain.refused:
        pytest.skip("is refused: test_what_has_no_effect_or_no_meaning_is_refused")
    sound, domain = kind.sound(music(2)), kind.domain
    for number, wanted in ((0.0, 5.0), (0.8, 25.0)):
        noisy = augment.noise(domain, sound, Always(number))
        ratio = domain.power(sound) / domain.power(noisy - sound)
        assert 10 * np.log10(ratio) == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("number", [0.3, 0.7], ids=["white", "pink"])
def test_noise_in_a_spectrogram_is_that_of_a_noisy_recording(spectra, number):
    """The mean of each band, and as rough: cells deviate from the overall mean alike.

    A tone's power spreads over frequencies that filters and pre-emphasis weigh differently.
    """
    raw, wave, chance = Kind("raw waveform").domain, music(3), Always(number)
    recorded = spectra.features(augment.noise(raw, wave, chance))
    stored = spectra.features(wave)
    made = spectra.domain.write(
        augment.noise(spectra.domain, spectra.domain.read(stored, always), chance), stored
    )
    louder = decibels(spectra, made, recorded)
    louder = louder.T if spectra.name == "whisper" else louder
    bands = louder.mean(axis=0)
    assert abs(bands.mean()) < 1.2  # dB
    assert np.abs(bands[3:]).max() < 2.5 and np.abs(bands).max() < 5
    quiet = decibels(spectra, made, made.mean()), decibels(spectra, recorded, recorded.mean())
    assert quiet[0].std() == pytest.approx(quiet[1].std(), rel=0.1)


def test_gain_makes_a_spectrogram_that_of_a_louder_or_softer_recording(spectra):
    for number, factor in ((0.0, 10 ** (-12 / 20)), (1.0, 10 ** (12 / 20))):
        stored = spectra.features(music(4))
        sound = spectra.domain.read(stored, always)
        made = spectra.domain.write(augment.gain(spectra.domain, sound, Always(number)), stored)
        recorded = spectra.features(np.float32(factor) * music(4))
        filled = stored > stored.min() + 0.01  # narrow bands may hold nothing, whatever the gain
        assert filled.mean() > 0.9
        assert np.abs(decibels(spectra, made, recorded))[filled].max() < 0.5


def test_gain_of_a_waveform(kind):
    if kind.name == "raw waveform":
        louder = augment.gain(kind.domain, kind.sound(music(4)), Always(1.0))
        assert np.allclose(louder, 10 ** (12 / 20) * kind.sound(music(4)))


@pytest.mark.parametrize("cutoff", [2400.0, 4000.0])
def test_a_band_limit_leaves_what_is_below_and_nothing_above(kind, cutoff):
    wave = np.random.default_rng(6).normal(0, 0.1, round(SECONDS * RATE)).astype(np.float32)
    raw = Kind("raw waveform").domain
    limited = raw.limit(wave, cutoff)
    share = np.abs(np.fft.rfft(limited)) ** 2
    hertz = np.fft.rfftfreq(len(wave), 1 / RATE)
    assert share[hertz > 1.02 * cutoff].sum() < 1e-4 * share.sum()
    kept = hertz < (1 - 2 * SLOPE) * cutoff
    assert np.abs(np.fft.rfft(wave))[kept] ** 2 @ np.ones(kept.sum()) == pytest.approx(
        share[kept].sum(), rel=1e-2
    )
    stored = kind.features(wave)
    made = kind.domain.write(kind.domain.limit(kind.domain.read(stored, always), cutoff), stored)
    recorded = kind.features(limited)
    if kind.name in SPECTRA:
        bands = np.abs(decibels(kind, made, recorded))
        bands = (bands.T if kind.name == "whisper" else bands).mean(axis=0)
        sums = kind.domain.filters.sum(axis=0)
        below = (kind.domain.filters * (kind.domain.hertz < 0.9 * cutoff)[:, None]).sum(0) == sums
        assert bands[below].max() < 0.5
        above = (kind.domain.filters * (kind.domain.hertz > cutoff)[:, None]).sum(0) == sums
        made = made.T if kind.name == "whisper" else made
        assert np.ptp(made[:, above]) < 1e-6 and made[:, above].max() <= made.min()
    elif kind.name == "w2v-bert":
        bands = made.reshape(-1, 80)
        above = kind.domain.centres > cutoff
        assert not bands[:, above].any()
        below = np.abs(made - recorded).reshape(-1, 80)[:, : above.argmax() - 4]
        assert below.mean() < 0.01 and below.max() < 0.5
    else:
        assert np.abs(made - recorded).max() < 0.01


def test_a_shift_moves_the_recording_and_loses_nothing(kind):
    """Each moment of the result, in seconds, is one of the recording up to half a second away."""
    moments = np.arange(len(kind.sound(music(7)))) / kind.domain.rate
    found = []
    for seed in range(20):
        moved = augment.shift(kind.domain, moments, np.random.default_rng(seed))
        assert np.array_equal(np.sort(moved), moments)
        found.append(np.median(moments - moved))
        assert (np.abs(moments - moved - found[-1]) < 1e-6).mean() > 0.75
    assert -0.5 <= min(found) < -0.25 and 0.25 < max(found) <= 0.5


def test_a_mixture_of_spectrograms_is_that_of_the_mixed_recordings(spectra):
    segments = dataset(spectra, [music(8), 0.1 * music(9)])
    made, share = spied(segments, spectra, ["mixup"])
    one, other = music(8), music(9)
    other *= np.sqrt((one**2).mean() / (other**2).mean())
    mixed = (share * one + (1 - share) * other) / np.hypot(share, 1 - share)
    difference = decibels(spectra, made, spectra.features(mixed))
    assert abs(np.median(difference)) < 0.5 and np.quantile(np.abs(difference), 0.8) < 3


def spied(segments, kind, names):
    """The first sample that is mixed with the second, and the share of its own label."""
    changes = augment.Augmenter(kind.domain, names, False, segments, labels=2, seed=0)
    for epoch in range(100):
        sample = changes.changed(segments[Draw(0, epoch=epoch)])
        if 0.2 < sample.target[1] < 0.4:
            return sample.features, sample.target[0]
    raise AssertionError("never mixed")


def dataset(kind: Kind, waves: list[np.ndarray]) -> Segments:
    """A split of some clips, each with a label of its own."""
    stored, numbers = [kind.features(wave) for wave in waves], list(range(len(waves)))
    return Segments(stored, Part([f"clip{n}" for n in numbers], numbers, numbers, numbers))


@pytest.fixture(scope="module")
def changed(kind):
    """All that this kind allows, of three clips of which one is shorter and one silent."""
    waves = [music(10), music(11, 2.5), np.zeros(round(SECONDS * RATE), np.float32)]
    segments = dataset(kind, waves)
    names = [name for name in ALL if name not in kind.domain.refused]
    return segments, lambda seed=0: augment.Augmenter(
        kind.domain, names, kind.name in SPECTRA, segments, labels=3, seed=seed
    )


def test_epochs_seeds_and_segments_differ_and_each_gives_the_same_bytes_again(changed):
    segments, made = changed
    draws = [Draw(number, epoch=epoch) for number in (0, 1) for epoch in range(4)]
    before = [segments.features(number).copy() for number in range(3)]
    once = [made().changed(segments[draw]) for draw in draws]
    again = made()([segments[draw] for draw in reversed(draws)])  # in threads, and another order
    for one, two in zip(once, reversed(again)):
        assert np.array_equal(one.features, two.features)
        assert np.array_equal(one.target, two.target)
    different = [made(seed=1).changed(segments[draws[0]]), *once]
    assert len({sample.features.tobytes() for sample in different}) >= len(different) - 1
    for number, features in enumerate(before):
        assert np.array_equal(features, segments.features(number))


def test_what_comes_out_is_a_batch_like_any_other(changed, kind):
    segments, made = changed
    collate = Collator("input", pad=False, augment=made())
    for epoch in range(8):
        draws = [Draw(0, True, epoch), Draw(2, True, epoch), Draw(1, False, epoch)]
        batch = collate([segments[draw] for draw in draws])
        labels = batch["labels"]
        assert labels.shape == (3, 3) and sorted(labels.sum(dim=1).tolist())[0] == 3 * IGNORED
        real = labels[labels[:, 0] != IGNORED]
        assert torch.allclose(real.sum(dim=1), torch.ones(2)) and (real >= 0).all()
        assert (real.max(dim=1).values >= 0.5).all()
        for each in batch.get(Collator.EQUAL, [batch]):
            assert torch.isfinite(each["input"]).all()
            for row in each["input"] if kind.name == "waveform" else ():
                assert row.mean().abs() < 1e-5
                assert row.var() == pytest.approx(1, abs=1e-3) or not row.any()


def test_half_of_the_segments_get_a_change(kind):
    segments = dataset(kind, [music(12)])
    changes = augment.Augmenter(kind.domain, ["band_limit"], False, segments, 1, seed=0)
    samples = changes([segments[Draw(0, epoch=epoch)] for epoch in range(60)])
    untouched = sum(np.array_equal(one.features, segments.features(0)) for one in samples)
    assert 15 < untouched < 45 and {sample.target for sample in samples} == {0}


def test_masks_hide_one_stretch_of_time_and_one_of_bands(spectra):
    stored = spectra.features(music(13))
    shares = []
    for seed in range(200):
        hidden = augment.mask(stored, np.random.default_rng(seed)) != stored
        frames, bands = hidden.all(axis=1).mean(), hidden.all(axis=0).mean()
        for axis in (0, 1):
            edges = np.diff(np.pad(hidden.all(axis=axis).astype(int), 1))
            assert (edges == 1).sum() <= 1
        shares.append((frames, bands))
    assert np.max(shares, axis=0) == pytest.approx(3 / 16, abs=0.03)
    assert np.mean(shares, axis=0) == pytest.approx(3 / 32, abs=0.03)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("waveform", "gain", "encode.normalize scales to unit variance; leave gain out"),
        ("w2v-bert", "gain", "levels of the bands"),
        ("w2v-bert", "noise", "levels of the bands"),
    ],
)
def test_what_has_no_effect_or_no_meaning_is_refused(name, change, reason):
    with pytest.raises(PipelineError, match=f"train.augment: {change} .*{reason}"):
        domain_of(Kind(name).extractor, [change])


def test_an_unknown_feature_extractor_is_refused():
    extractor = SequenceFeatureExtractor(1, 16_000, 0.0)
    with pytest.raises(PipelineError, match="does not know the features of a SequenceFeature"):
        domain_of(extractor, ["shift"])
