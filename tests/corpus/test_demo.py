"""The demo corpus: reproducible bytes, sensible levels, and genres with their characteristics."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
import yaml
from scipy.signal import butter, sosfilt

from genrepro.core.errors import PipelineError
from genrepro.corpus.demo.composer import GENRES, Piece, pieces, render
from genrepro.corpus.demo.instruments import VOICES, note
from genrepro.corpus.demo.score import Score, chords
from tests.support.samples import ROOT

CARD = yaml.safe_load((ROOT / "corpora/demo/corpus.yaml").read_text(encoding="utf-8"))
RATE = CARD["sample_rate"]


@lru_cache(maxsize=128)
def played(piece: Piece) -> np.ndarray:
    return render(piece, CARD)


def of(genre: str, bands: int = 6) -> list[np.ndarray]:
    """A clip by each of a genre's first bands."""
    firsts = [p for p in pieces(CARD) if p.label == genre][:: CARD["clips_per_genre"]]
    return [played(piece) for piece in firsts[:bands]]


def band_share(sound: np.ndarray, low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    return float(power[(hertz >= low) & (hertz < high)].sum() / power.sum())


def pulse(sound: np.ndarray, low: float, high: float, bpm: tuple[float, float]) -> float:
    """How strongly the loudness of a frequency band repeats at some tempo in a range: 0 to 1."""
    sieve = butter(2, (low, high), "bandpass", fs=RATE, output="sos")
    steps = np.square(sosfilt(sieve, sound))[: len(sound) // 160 * 160].reshape(-1, 160)
    onsets = np.maximum(0, np.diff(np.log(steps.mean(axis=1) + 1e-6)))
    onsets -= onsets.mean()
    lags = range(int(6000 / bpm[1]), int(6000 / bpm[0]) + 2)  # steps are of 10 ms
    return float(max(onsets[lag:] @ onsets[:-lag] for lag in lags) / (onsets @ onsets))


def test_the_corpus_is_ten_genres_and_each_band_plays_several_of_them():
    listed = pieces(CARD)
    assert len({piece.label for piece in listed}) == 10
    assert len({piece.clip for piece in listed}) == len(listed)
    assert listed == sorted(listed, key=lambda piece: piece.clip)
    played_by = {(piece.group, piece.label) for piece in listed}
    assert set(Counter(group for group, _ in played_by).values()) == {CARD["genres_per_band"]}
    assert len({group for group, _ in played_by}) == CARD["bands"]
    assert set(Counter(p.group for p in listed).values()) == {
        CARD["genres_per_band"] * CARD["clips_per_genre"]
    }
    each = CARD["bands"] * CARD["genres_per_band"] * CARD["clips_per_genre"] / len(GENRES)
    assert set(Counter(piece.label for piece in listed).values()) == {each}


def test_the_same_card_gives_the_same_bytes_in_any_order():
    some = pieces(CARD)[:: len(pieces(CARD)) // 12]
    forwards = {piece.clip: render(piece, CARD).tobytes() for piece in some}
    backwards = {piece.clip: render(piece, dict(CARD)).tobytes() for piece in reversed(some)}
    assert forwards == backwards


def test_a_clip_depends_on_the_seed_but_not_on_how_large_the_corpus_is():
    piece = pieces(CARD)[0]
    assert not np.array_equal(played(piece), render(piece, CARD | {"seed": CARD["seed"] + 1}))
    assert np.array_equal(played(piece), render(piece, CARD | {"bands": 1, "clips_per_genre": 1}))


@pytest.mark.parametrize("genre", GENRES)
def test_levels_are_sensible(genre: str):
    for sound in of(genre):
        assert sound.dtype == np.float32
        assert sound.shape == (int(CARD["seconds"] * RATE),)
        assert np.isfinite(sound).all()
        assert 0.2 < np.abs(sound).max() < 0.95  # loud, and not clipped
        assert -22 < 20 * np.log10(sound.std()) < -13
        assert abs(sound.mean()) < 0.01
        assert np.abs(sound[[0, -1]]).max() == 0  # faded: no click at either end
        assert np.array_equal(sound * 2**15, np.round(sound * 2**15))  # 16 bits keep it exactly
        seconds = sound[: len(sound) // RATE * RATE].reshape(-1, RATE)
        assert seconds.std(axis=1).min() > 0.01  # no long silence
        assert 0.0003 < band_share(sound, 2500, 8000) < 0.5
        assert band_share(sound, 0, 200) < 0.95


@pytest.mark.parametrize("genre", GENRES)
def test_the_bands_of_a_genre_differ_and_so_do_a_band_s_songs(genre: str):
    first, second = [piece for piece in pieces(CARD) if piece.label == genre][:2]
    sounds = [*of(genre), played(second)]
    assert first.group == second.group
    for i, one in enumerate(sounds):
        for other in sounds[:i]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.5


def test_disco_has_a_kick_on_each_beat_and_classical_has_none():
    disco = [pulse(sound, 40, 90, (105, 136)) for sound in of("disco")]
    classical = [pulse(sound, 40, 90, (105, 136)) for sound in of("classical")]
    assert np.median(disco) > np.median(classical) + 0.15


def test_metal_is_dense_and_classical_is_dark():
    crest = {g: np.median([np.abs(s).max() / s.std() for s in of(g)]) for g in ("metal", "hiphop")}
    assert crest["metal"] < crest["hiphop"]
    treble = {g: np.median([band_share(s, 3000, 8000) for s in of(g)]) for g in GENRES}
    assert "classical" in sorted(treble, key=treble.get)[:3]


def test_reggae_and_hiphop_are_the_deepest():
    depth = {g: np.median([band_share(s, 30, 200) for s in of(g)]) for g in GENRES}
    assert set(sorted(depth, key=depth.get)[-3:]) >= {"reggae", "hiphop"}


def test_a_note_has_its_pitch():
    for name in ("flute", "clarinet", "finger bass"):
        sound = note(VOICES[name], 69, 1.0, RATE)
        peak = np.argmax(np.abs(np.fft.rfft(sound[:RATE])))
        assert abs(peak - 440) <= 3, name


def test_chords_are_parsed():
    minor, flat, dominant = chords("ii7 bVII V9")
    assert (minor.root, minor.tones) == (2, (0, 3, 7, 10))
    assert (flat.root, flat.tones) == (10, (0, 4, 7))
    assert dominant.tones == (4, 7, 10, 14)


def test_a_swung_eighth_comes_late():
    straight, swung = (
        Score(np.random.default_rng(1), RATE, 4.0, 60, 48, swing=swing, looseness=0.0)
        for swing in (0.5, 2 / 3)
    )
    assert swung.when(1.0) == straight.when(1.0)
    assert swung.when(1.5) - straight.when(1.5) == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bands", 0),
        ("clips_per_genre", "4"),
        ("seconds", 0.1),
        ("sample_rate", 16000.5),
        ("seed", -1),
    ],
)
def test_a_wrong_number_in_the_card_is_refused_by_name(key: str, value: object):
    with pytest.raises(PipelineError, match=key):
        pieces(CARD | {key: value})
    with pytest.raises(PipelineError, match=key):
        pieces({name: number for name, number in CARD.items() if name != key})
