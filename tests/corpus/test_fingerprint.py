"""Copies are found after encoding, resampling, gain, shifts and cuts; other clips are not."""

import csv
import io

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from genrepro.core.errors import PipelineError
from genrepro.corpus.card import load_card
from genrepro.corpus.demo.composer import pieces, render
from genrepro.corpus.fingerprint import FRAMES_PER_SECOND, fingerprint
from genrepro.corpus.inspection import inspect_clip
from genrepro.splits.clips import Clip
from genrepro.splits.duplicates import allowed_wrong_bits, near_identical, read_fingerprints
from genrepro.splits.protocols import split
from tests.support.samples import ROOT

RATE = 22_050


def music(seed: int, seconds: float = 8.0) -> np.ndarray:
    """Plucked chords over noise bursts, float32 (samples,): another piece for each seed."""
    rng = np.random.default_rng(seed)
    sound = np.zeros(round(seconds * RATE))
    beat = rng.uniform(0.25, 0.5)
    time = np.arange(round(1.2 * RATE)) / RATE
    for start in np.arange(0, seconds - 0.1, beat):
        pitches = 110 * 2 ** (rng.integers(0, 36, 3) / 12)
        harmonics = np.arange(1, 6)[:, None]
        tones = sum(np.sin(2 * np.pi * p * harmonics * time) / harmonics for p in pitches).sum(0)
        burst = rng.normal(0, 1, len(time)) * np.exp(-time * 30) * rng.uniform(0, 2)
        at = round(start * RATE)
        note = (tones * np.exp(-time * 4) + burst)[: len(sound) - at]
        sound[at : at + len(note)] += note
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def coded(sound: np.ndarray, rate: int, container: str, codec: str, compression: float):
    file = io.BytesIO()
    soundfile.write(
        file, sound, rate, format=container, subtype=codec, compression_level=compression
    )
    file.seek(0)
    return soundfile.read(file, dtype="float32")


CHANGES = {
    "none": lambda x: (x, RATE),
    "resampled to 16 kHz": lambda x: (soxr.resample(x, RATE, 16_000), 16_000),
    "resampled to 8 kHz": lambda x: (soxr.resample(x, RATE, 8_000), 8_000),
    "resampled to 48 kHz": lambda x: (soxr.resample(x, RATE, 48_000), 48_000),
    "mp3": lambda x: coded(x, RATE, "MP3", "MPEG_LAYER_III", 0.5),
    "mp3, low bit rate": lambda x: coded(x, RATE, "MP3", "MPEG_LAYER_III", 0.9),
    "ogg": lambda x: coded(x, RATE, "OGG", "VORBIS", 0.5),
    "a tenth as loud": lambda x: (0.1 * x, RATE),
    "half a second later": lambda x: (np.concatenate([np.zeros(RATE // 2, np.float32), x]), RATE),
    "half a second cut off": lambda x: (x[RATE // 2 :], RATE),
    "an excerpt of 3 s": lambda x: (x[round(2.217 * RATE) : round(5.217 * RATE)], RATE),
    "several at once": lambda x: coded(
        soxr.resample(0.3 * x[9_876:], RATE, 16_000), 16_000, "MP3", "MPEG_LAYER_III", 0.5
    ),
}


@pytest.fixture(scope="module")
def originals() -> dict[str, np.ndarray]:
    return {f"tune {seed:02d}": music(seed) for seed in range(12)}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_and_nothing_else(originals, change):
    prints = {name: fingerprint(sound, RATE) for name, sound in originals.items()}
    prints |= {f"{n} copy": fingerprint(*CHANGES[change](x)) for n, x in originals.items()}
    found = [(match.a, match.b) for match in near_identical(prints, FRAMES_PER_SECOND)]
    assert found == [(name, f"{name} copy") for name in sorted(originals)]


@pytest.mark.parametrize("change", ["none", "resampled to 16 kHz", "a tenth as loud"])
@pytest.mark.parametrize("seconds", [0.4, 0.6, 0.9])
def test_a_copy_of_a_short_sound_is_found_and_nothing_else(originals, change, seconds):
    short = {name: sound[: round(seconds * RATE)] for name, sound in originals.items()}
    prints = {name: fingerprint(sound, RATE) for name, sound in short.items()}
    prints |= {f"{name} copy": fingerprint(*CHANGES[change](x)) for name, x in short.items()}
    found = [(match.a, match.b) for match in near_identical(prints, FRAMES_PER_SECOND)]
    assert found == [(name, f"{name} copy") for name in sorted(originals)]


def test_the_offset_is_that_of_the_excerpt(originals):
    sound = originals["tune 03"]
    excerpt = sound[round(2.5 * RATE) : round(6.5 * RATE)]
    prints = {"a whole": fingerprint(sound, RATE), "b part": fingerprint(excerpt, RATE)}
    (match,) = near_identical(prints, FRAMES_PER_SECOND)
    assert match.offset == pytest.approx(2.5, abs=0.05)
    assert match.seconds == pytest.approx(3.5, abs=0.2)
    assert str(match).startswith("a whole, b part: ")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.sampled_from([2_000, 8_000, 44_100]))
def test_any_sound_has_a_fingerprint(seed, exponent, rate):
    sound = np.random.default_rng(seed).normal(0, 0.1, 2**exponent).astype(np.float32)
    codes = fingerprint(sound, rate)
    assert codes.dtype == np.uint32 and codes.ndim == 1 and len(codes) >= 1
    assert np.array_equal(codes, fingerprint(sound, rate))


def test_silence_matches_nothing():
    still = fingerprint(np.zeros(5 * RATE, np.float32), RATE)
    assert not still.any()
    assert near_identical({"a": still, "b": still, "c": still}, FRAMES_PER_SECOND) == []
    assert near_identical({"a": still}, FRAMES_PER_SECOND) == []


def test_unrelated_noises_do_not_match():
    rng = np.random.default_rng(3)
    prints = {
        f"noise {i:03d}": fingerprint(rng.normal(0, 0.1, 4 * RATE).astype(np.float32), RATE)
        for i in range(60)
    }
    assert near_identical(prints, FRAMES_PER_SECOND) == []


def test_many_copies_of_one_recording_are_all_linked():
    """More than a key's neighbours: copies may be linked through other copies."""
    codes = fingerprint(music(5), RATE)
    copies = {f"{i:03d}": codes for i in range(60)}
    links = {(match.a, match.b) for match in near_identical(copies, FRAMES_PER_SECOND)}
    linked = {"000"}
    while grown := {b for pair in links for b in pair if linked & set(pair)} - linked:
        linked |= grown
    assert len(linked) == 60


def test_shorter_sounds_must_agree_better():
    assert allowed_wrong_bits(30) == 0.22
    seconds = [0.1, 0.5, 0.8, 1.1, 3.0, 8.0]
    assert sorted(map(allowed_wrong_bits, seconds)) == [allowed_wrong_bits(s) for s in seconds]
    assert allowed_wrong_bits(0.1) == allowed_wrong_bits(0.5) == 0.005


def test_different_hits_on_similar_drums_are_not_one_recording():
    """90 hits of 0.4 s on 10 kits, whose codes differ in 1 of 100 bits."""
    files = sorted((ROOT / "tests" / "cases" / "kits").rglob("*.wav"))
    prints = {path.stem: inspect_clip(path).fingerprint for path in files}
    assert len(prints) == 90
    assert near_identical(prints, FRAMES_PER_SECOND) == []
    samples, rate = soundfile.read(files[40], dtype="float32")
    resampled = soxr.resample(samples, rate, 16_000)
    prints["copy"] = fingerprint(resampled, 16_000)
    (match,) = near_identical(prints, FRAMES_PER_SECOND)
    assert (match.a, match.b) == ("copy", files[40].stem)


def test_kits_of_drums_can_be_split_by_kit():
    cases = ROOT / "tests" / "cases"
    with (cases / "kits.csv").open(encoding="utf-8", newline="") as file:
        kit = {row["clip"]: row["group"] for row in csv.DictReader(file)}
    files = sorted((cases / "kits").rglob("*.wav"))
    clips = [Clip(path.stem, path.parent.name, kit[path.stem]) for path in files]
    prints = {path.stem: inspect_clip(path).fingerprint for path in files}
    same = [(match.a, match.b) for match in near_identical(prints, FRAMES_PER_SECOND)]
    for fold in range(10):
        splits = split(clips, "grouped", folds=10, fold=fold, validation=0.1, seed=42, same=same)
        assert set(splits) == set(kit)
        assert len({(kit[clip], part) for clip, part in splits.items()}) == 10  # none in two


def test_two_songs_of_one_band_are_not_one_recording():
    card = load_card(ROOT / "corpora" / "demo").model_dump()
    songs = [piece for piece in pieces(card) if piece.group < "band-06"]
    prints = {song.clip: fingerprint(render(song, card), card["sample_rate"]) for song in songs}
    assert len(prints) == len(songs) > 10
    assert near_identical(prints, FRAMES_PER_SECOND) == []


def test_frames_per_second():
    seconds = 30
    codes = fingerprint(music(1, seconds), RATE)
    assert len(codes) / FRAMES_PER_SECOND == pytest.approx(seconds, abs=0.6)


def test_a_missing_file_says_what_to_type(tmp_path):
    with pytest.raises(PipelineError, match="dvc repro fetch_data"):
        read_fingerprints(tmp_path / "fingerprints.parquet")
