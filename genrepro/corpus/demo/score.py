"""A score as it is written: bars, chords, parts, and the sound of each part."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import numpy as np

from genrepro.corpus.demo.instruments import Kit, Voice, hit, note

ROMAN = {"i": 0, "bii": 1, "ii": 2, "biii": 3, "iii": 4, "iv": 5, "v": 7, "bvi": 8, "vi": 9}
ROMAN |= {"bvii": 10, "vii": 11}
CHORDS = {"": (0, 4, 7), "m": (0, 3, 7), "5": (0, 7, 12), "7": (0, 4, 7, 10), "m7": (0, 3, 7, 10)}
CHORDS |= {"M7": (0, 4, 7, 11), "9": (4, 7, 10, 14), "m9": (3, 7, 10, 14), "M9": (4, 7, 11, 14)}
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
BLUES, PENTATONIC, DORIAN = (0, 3, 5, 6, 7, 10), (0, 2, 4, 7, 9), (0, 2, 3, 5, 7, 9, 10)
MINOR_PENTATONIC, PHRYGIAN = (0, 3, 5, 7, 10), (0, 1, 3, 5, 7, 8, 10)
ACCENTS = {"X": 1.0, "x": 0.75, "o": 0.45, "-": 0.2}  # how loud a pattern's step is


@dataclass(frozen=True)
class Chord:
    root: int  # semitones above the key
    tones: tuple[int, ...]  # semitones above the root

    def near(self, key: int, low: int) -> list[int]:
        """The chord's tones as MIDI pitches, each within the octave above `low`."""
        return sorted(low + (key + self.root + tone - low) % 12 for tone in self.tones)

    def bass(self, key: int, low: int, above: int = 0) -> int:
        """The root, or the tone `above` it, in the octave above `low`."""
        return low + (key + self.root - low) % 12 + above


def chords(text: str) -> list[Chord]:
    """Parse a progression such as "ii7 V7 IM7": lower case is minor, the suffix is the kind."""
    found = []
    for symbol in text.split():
        numeral, kind = re.findall(r"^(b?[IViv]+)(.*)$", symbol)[0]
        minor = "m" if numeral.lstrip("b").islower() and kind != "5" else ""
        found.append(Chord(ROMAN[numeral.lower()], CHORDS[minor + kind]))
    return found


def _distance(a: int, b: int) -> int:
    return abs(a - b)


@dataclass
class Part:
    """One player's line in the mix."""

    sound: np.ndarray
    voice: Voice | Kit
    gain: float
    room: float  # how much of it is sent to the reverberation
    drive: float  # overdrive; 0 is clean
    tone: float  # the amplifier's low-pass in Hz; 0 for none
    cache: dict = field(default_factory=dict)


@dataclass
class Score:
    """One clip. Beats count from the piece's start; the clip starts `lead_in` seconds later."""

    rng: np.random.Generator  # the clip's own choices
    rate: int
    seconds: float
    bpm: float
    key: int  # MIDI pitch of the tonic
    meter: int = 4  # beats in a bar
    swing: float = 0.5  # where the second half of `swing_unit` falls: 2/3 is a triplet
    swing_unit: float = 1.0
    looseness: float = 0.004  # seconds by which players may be early or late
    lead_in: float = field(init=False)
    parts: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lead_in = self.rng.uniform(0, self.meter * 60 / self.bpm)

    @property
    def bars(self) -> int:
        return int(np.ceil((self.seconds + self.lead_in) * self.bpm / 60 / self.meter))

    def part(
        self, voice: Voice | Kit, gain: float, room: float = 0.1, drive: float = 0, tone: float = 0
    ) -> Part:
        silence = np.zeros(int(self.seconds * self.rate))
        self.parts.append(Part(silence, voice, gain, room, drive, tone))
        return self.parts[-1]

    def play(
        self,
        part: Part,
        beat: float,
        pitches: Iterable[float] | float,
        beats: float,
        accent: float = 1.0,
        strum: float = 0.0,
    ) -> None:
        """Play a note or a chord; `strum` is the seconds between a chord's notes."""
        seconds = beats * 60 / self.bpm
        loudness = accent * self.rng.uniform(0.85, 1.0)
        start = self.when(beat)
        voice = cast(Voice, part.voice)
        for order, pitch in enumerate(np.atleast_1d(np.asarray(pitches))):
            if start >= self.seconds or start + seconds + voice.release <= 0:
                continue
            key = (float(pitch), round(seconds, 3))
            if key not in part.cache:
                part.cache[key] = note(voice, *key, self.rate)
            self._add(part, start + order * strum, part.cache[key], loudness)

    def strike(self, part: Part, beat: float, drum: str, accent: float = 1.0) -> None:
        loudness = accent * self.rng.uniform(0.85, 1.0)
        self._add(part, self.when(beat), hit(cast(Kit, part.voice), drum, self.rate), loudness)

    def beat_out(self, part: Part, drum: str, pattern: str, level: float = 1.0) -> None:
        """Repeat a pattern such as "X...x..." in every bar, its steps evenly spaced."""
        for bar in range(self.bars):
            for step, mark in enumerate(pattern):
                if mark in ACCENTS:
                    beat = self.meter * (bar + step / len(pattern))
                    self.strike(part, beat, drum, level * ACCENTS[mark])

    def comp(
        self,
        part: Part,
        progression: list[Chord],
        rhythms: tuple[str, ...],
        low: int,
        hold: float = 0.9,
        strum: float = 0.0,
    ) -> None:
        """Accompany with chords. A rhythm lasts a bar: X, x, o start a chord, = holds it."""
        for bar in range(self.bars):
            pitches = progression[bar % len(progression)].near(self.key, low)
            for mark, _, beat, beats in self._notes(bar, rhythms[bar % len(rhythms)], "Xxo"):
                self.play(part, beat, pitches, beats * hold, ACCENTS[mark], strum)

    def bass(
        self,
        part: Part,
        progression: list[Chord],
        rhythms: tuple[str, ...],
        low: int,
        hold: float = 0.9,
    ) -> None:
        """Play a bass line. A rhythm lasts a bar; its letters are notes above the root: r the root,
        t the chord's third, f the fifth, s the sixth, v the seventh, o the octave; = holds.
        """
        for bar in range(self.bars):
            chord = progression[bar % len(progression)]
            third = 3 if 3 in chord.tones else 4
            above = {"r": 0, "t": third, "f": 7, "s": 9, "v": 10, "o": 12}
            for mark, _, beat, beats in self._notes(bar, rhythms[bar % len(rhythms)], "rtfsvo"):
                self.play(part, beat, chord.bass(self.key, low, above[mark]), beats * hold)

    def tune(
        self,
        part: Part,
        scale: tuple[int, ...],
        rhythms: tuple[str, ...],
        progression: list[Chord],
        low: int,
        accent: float = 1.0,
        legato: float = 0.9,
    ) -> None:
        """Improvise a melody: a walk through the scale that lands on the chords' tones.

        Args:
            rhythms: patterns that last a bar: x starts a note, = holds it, a dot is silent.
        """
        pool = [low + (self.key - low) % 12 + 12 * up + s for up in (-1, 0, 1) for s in scale]
        pool = sorted(p for p in pool if low <= p <= low + 19)
        place = len(pool) // 2
        for bar in range(self.bars):
            rhythm = rhythms[self.rng.integers(len(rhythms))]
            chord = progression[bar % len(progression)]
            home = {(self.key + chord.root + tone) % 12 for tone in chord.tones}
            for _, step, beat, beats in self._notes(bar, rhythm, "x"):
                place = int(np.clip(place + self.rng.integers(-2, 3), 0, len(pool) - 1))
                if step % 4 == 0:  # a strong beat: the nearest tone of the chord
                    order = sorted(range(len(pool)), key=partial(_distance, place))
                    place = next((i for i in order if pool[i] % 12 in home), place)
                self.play(part, beat, pool[place], beats * legato, accent)

    def _notes(self, bar: int, rhythm: str, starts: str) -> Iterator[tuple[str, int, float, float]]:
        """The notes of a bar's rhythm: a mark in `starts` starts a note, = holds it.

        Yields:
            The mark that starts the note, its step in the rhythm, its beat, its length in beats.
        """
        step = self.meter / len(rhythm)
        for found in re.finditer(f"[{starts}]=*", rhythm):
            held = found.group()
            yield held[0], found.start(), self.meter * bar + found.start() * step, len(held) * step

    def when(self, beat: float) -> float:
        """From a beat as written to seconds in the clip as played."""
        whole, part = divmod(beat, self.swing_unit)
        share = part / self.swing_unit
        if share < 0.5:
            share *= 2 * self.swing
        else:
            share = self.swing + (share - 0.5) * 2 * (1 - self.swing)
        swung = (whole + share) * self.swing_unit
        late = self.rng.uniform(-self.looseness, self.looseness)
        return swung * 60 / self.bpm - self.lead_in + late

    def _add(self, part: Part, start: float, sound: np.ndarray, loudness: float) -> None:
        begin = round(start * self.rate)
        skip = max(0, -begin)
        begin = max(0, begin)
        sound = sound[skip : skip + max(0, len(part.sound) - begin)]
        part.sound[begin : begin + len(sound)] += loudness * sound
