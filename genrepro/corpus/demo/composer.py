"""The demo corpus: music by bands that do not exist, composed and rendered from seeds."""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import butter, sosfilt

from genrepro.core.errors import PipelineError
from genrepro.corpus.demo import charts, roots
from genrepro.corpus.demo.band import Band, Gear, generator
from genrepro.corpus.demo.score import Part, Score

GENRES = {
    "blues": roots.blues,
    "classical": roots.classical,
    "country": roots.country,
    "disco": charts.disco,
    "hiphop": charts.hiphop,
    "jazz": roots.jazz,
    "metal": charts.metal,
    "pop": charts.pop,
    "reggae": roots.reggae,
    "rock": charts.rock,
}
FADE = 0.01  # seconds at both ends, so that no clip begins or ends with a click
LIMITS = {"seed": (0, 2**32), "seconds": (1, 60), "sample_rate": (8000, 48000)}
LIMITS |= {"bands": (1, 10000), "genres_per_band": (1, len(GENRES)), "clips_per_genre": (1, 100)}
LIMITS |= {"rests": (0, 1), "noise": (0, 90)}
NUMBERS = ("seconds", "rests", "noise")  # the others are whole
SPAN = 20.0  # dB between the noisiest clips and the cleanest

# What makes the genres hard to tell apart. These were set so that models make mistakes.
TEMPO = 1.1  # a song is at most this much faster or slower than its band plays the genre
LEVEL = 3.0  # dB by which each player is louder or softer


@dataclass(frozen=True)
class Piece:
    """A clip to compose: its name, its genre and the band that plays it."""

    clip: str  # e.g. reggae.00012
    label: str  # e.g. reggae
    group: str  # e.g. band-03


class Order(NamedTuple):
    """A piece to compose, and the FLAC file to write it to."""

    piece: Piece
    card: dict
    path: Path


def compose(order: Order) -> None:
    """Render a piece to its file, as 16-bit FLAC."""
    samples = render(order.piece, order.card)
    flac = io.BytesIO()  # libsndfile does not report a full disk
    soundfile.write(flac, samples, order.card["sample_rate"], subtype="PCM_16", format="FLAC")
    order.path.write_bytes(flac.getvalue())


def pieces(card: dict) -> list[Piece]:
    """All pieces of the corpus, sorted by clip.

    Each band plays some of the genres, and as many songs in each of them. Over all bands, the
    genres are as frequent as each other.

    Args:
        card: the parsed corpus.yaml.

    Raises:
        PipelineError: the card lacks a number, or one is out of bounds.
    """
    check(card)
    each, found = card["clips_per_genre"], []
    for label, bands in _bands_of_genres(card).items():
        for place, band in enumerate(bands):
            for song in range(each):
                found.append(Piece(f"{label}.{place * each + song:05d}", label, f"band-{band:02d}"))
    return found


def _bands_of_genres(card: dict) -> dict[str, list[int]]:
    """Deal the genres, each time in another order, to one band after the other."""
    rng, names = generator(card["seed"]), list(GENRES)
    bands: dict[str, list[int]] = {name: [] for name in names}
    waiting: list[str] = []
    for band in range(card["bands"]):
        for _ in range(card["genres_per_band"]):
            if all(band in bands[name] for name in waiting):
                waiting += [names[place] for place in rng.permutation(len(names))]
            name = next(name for name in waiting if band not in bands[name])
            waiting.remove(name)
            bands[name].append(band)
    return bands


def check(card: dict) -> None:
    """Check the numbers in the card of a generated corpus.

    Raises:
        PipelineError: a number is missing or out of bounds; the message names it and its bounds.
    """
    for key, (low, high) in LIMITS.items():
        value: Any = card.get(key)
        kinds = (int, float) if key in NUMBERS else (int,)
        right = isinstance(value, kinds) and not isinstance(value, bool)
        if not right or not low <= value <= high:
            kind = "a number" if key in NUMBERS else "a whole number"
            raise PipelineError(
                f"corpus.yaml: {key} must be {kind} from {low} to {high}, not {value!r}."
            )


def render(piece: Piece, card: dict) -> np.ndarray:
    """Compose and render one piece.

    Returns:
        (samples,) float32 within [-1, 1], each a multiple of 2**-15, so that 16-bit files
        store it exactly. It depends only on the piece and the card's `seed`, `seconds` and
        `sample_rate`.
    """
    rate, seconds = card["sample_rate"], card["seconds"]
    band_number, song_number = (
        int(re.findall(r"\d+$", name)[0]) for name in (piece.group, piece.clip)
    )
    genre = zlib.crc32(piece.label.encode())  # a new genre does not change the others' music
    keys = (card["seed"], band_number)
    song_rng = generator(*keys, genre, song_number + 1)
    band = Band(generator(*keys, genre), Gear(*keys))

    def begin(bpm: float, **style: Any) -> Score:
        tempo = bpm * TEMPO ** song_rng.uniform(-1, 1)
        tonic = int(song_rng.integers(40, 52))
        return Score(song_rng, rate, seconds, tempo, tonic, **style)

    score = GENRES[piece.label](band, begin)
    studio = Studio.of(generator(*keys, 1))
    mix = _mix(score, studio, card["rests"])
    return _master(mix, studio, score, card["noise"])


@dataclass(frozen=True)
class Studio:
    """How a band's recordings sound, whatever it plays."""

    room: float  # seconds until the reverberation has fallen by 60 dB
    bass: float  # dB below 200 Hz
    treble: float  # dB above 2.5 kHz
    loudness: float  # RMS, dB below full scale

    @classmethod
    def of(cls, rng: np.random.Generator) -> Studio:
        return cls(
            room=float(rng.choice((0.5, 0.9, 1.4, 2.0))),
            bass=rng.uniform(-4, 4),
            treble=rng.uniform(-6, 3),
            loudness=rng.uniform(-20, -15),
        )


def _mix(score: Score, studio: Studio, rests: float) -> np.ndarray:
    dry, sent = np.zeros((2, len(score.parts[0].sound)))
    for part in _players(score, rests):
        level = _ratio(score.rng.uniform(-LEVEL, LEVEL))
        sound = level * part.gain * _amplified(part, score.rate)
        dry += sound
        sent += part.room * sound
    return dry + _reverberated(sent, studio.room, score.rate)


def _players(score: Score, chance: float) -> list[Part]:
    """Those who do not rest: at least two, if there are as many."""
    rests = score.rng.random(len(score.parts))
    second = np.sort(rests)[-2:][0]
    return [part for part, rest in zip(score.parts, rests) if rest >= min(chance, second)]


def _amplified(part: Part, rate: int) -> np.ndarray:
    sound = part.sound
    if part.drive:
        sound = np.tanh(part.drive * sound) / np.tanh(part.drive)
    if part.tone:
        sound = sosfilt(butter(2, part.tone, fs=rate, output="sos"), sound)
    return sound


def _reverberated(sent: np.ndarray, seconds: float, rate: int) -> np.ndarray:
    response = _room(seconds, rate, len(sent))
    return irfft(rfft(sent, n=2 * (len(response) - 1)) * response)[: len(sent)]


@lru_cache(maxsize=8)
def _room(seconds: float, rate: int, samples: int) -> np.ndarray:
    """The spectrum of a room's impulse response: noise that decays by 60 dB in `seconds`."""
    t = np.arange(int(seconds * rate)) / rate
    size = next_fast_len(samples + len(t), real=True)
    noise = generator(int(seconds * 1000)).standard_normal(len(t)) * 1000 ** (-t / seconds)
    noise = sosfilt(butter(1, (200, 3500), "bandpass", fs=rate, output="sos"), noise)
    noise[: int(0.012 * rate)] = 0  # the sound takes 12 ms to reach a wall
    return rfft(noise / np.sqrt(np.sum(noise**2)), n=size + size % 2)


def _master(mix: np.ndarray, studio: Studio, score: Score, quiet: float) -> np.ndarray:
    rate = score.rate
    low = sosfilt(butter(1, 200, fs=rate, output="sos"), mix)
    high = sosfilt(butter(1, 2500, "highpass", fs=rate, output="sos"), mix)
    mix = mix + (_ratio(studio.bass) - 1) * low + (_ratio(studio.treble) - 1) * high
    mix = sosfilt(butter(2, 35, "highpass", fs=rate, output="sos"), mix)
    mix *= _ratio(studio.loudness) / np.sqrt(np.mean(mix**2))
    mix = 0.95 * np.tanh(mix / 0.95)  # a soft limiter, so that peaks do not clip
    noise = _ratio(studio.loudness - score.rng.uniform(quiet, quiet + SPAN))
    mix += noise * score.rng.standard_normal(len(mix))
    fade = np.minimum(1, np.arange(len(mix)) / (FADE * rate))
    mix *= fade * fade[::-1]
    return (np.clip(np.round(mix * 2**15), -(2**15), 2**15 - 1) / 2**15).astype(np.float32)


def _ratio(decibel: float) -> float:
    return 10 ** (decibel / 20)
