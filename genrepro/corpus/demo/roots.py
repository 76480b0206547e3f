"""Blues, classical, country, jazz, reggae: one function each, in which a band plays one song.

What makes the genre (tempo, rhythm, harmony, instruments) is fixed; what differs between its bands
is drawn from `band`, and what differs between a band's songs from `score.rng`. `band` draws the
same values for every song, so none of its draws may depend on the song.
"""

from __future__ import annotations

import numpy as np

from genrepro.corpus.demo.band import Band, Begin, song_of
from genrepro.corpus.demo.score import (
    BLUES,
    DORIAN,
    MAJOR,
    MINOR,
    MINOR_PENTATONIC,
    PENTATONIC,
    Score,
    chords,
)


def blues(band: Band, begin: Begin) -> Score:
    """A slow shuffle over the twelve bars, with a bent-note solo."""
    score = begin(bpm=band.between(66, 108), swing=band.between(0.64, 0.69), looseness=0.009)
    form = chords("I7 IV7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7")
    start = int(score.rng.integers(12))
    form = form[start:] + form[:start]

    drums = score.part(band.kit(), band.between(0.9, 1.3))
    score.beat_out(drums, band.pick("ride", "closed hat"), "X.XxX.Xx", 0.7)
    score.beat_out(drums, "snare", "..X...X.", band.between(0.4, 0.8))
    score.beat_out(drums, "kick", band.pick("X...X...", "X..xX...", "X..oX..x"))
    walk = band.two("rrttffss", "r.t.f.s.", "rrooffss", "r.o.f.t.")
    score.bass(score.part(band.voice("finger bass", "upright bass"), 0.4), form, walk, 33, 0.8)

    boogie = score.part(band.voice("clean guitar", "electric guitar", "piano"), 0.25, drive=1.5)
    if band.often(0.6):
        for bar in range(score.bars):
            root = form[bar % 12].bass(score.key, 40)
            for beat in range(4):
                top = root + 7 + 2 * (beat % 2)
                for half in (0, 0.5):
                    score.play(boogie, 4 * bar + beat + half, (root, top), 0.4)
    else:
        score.comp(boogie, form, band.two(".Xx..X..", "..X=..X=", ".x.x.x.x"), 52, 0.7)
    solo = score.part(
        band.voice("electric guitar", "harmonica", "harmonica"), 0.25, room=0.3, drive=2
    )
    licks = ("x=.xxx==", "..xxx===", "xx.x====", "...xx=x=", "x==.....")
    score.tune(solo, BLUES, licks, form, 57 + band.pick(0, 5))
    return score


def classical(band: Band, begin: Begin) -> Score:
    """No drums: strings, woodwind or keyboard in a hall, often in three."""
    meter = band.pick(3, 3, 4)
    score = begin(bpm=band.between(76, 138), meter=meter, looseness=0.015)
    form = song_of(
        score,
        band.two(
            chords("I V7 V7 I IV I V7 I"),
            chords("I IV V I vi ii V I"),
            chords("i iv V i bVI iv V7 i"),
        ),
    )
    scale = MINOR if 3 in form[0].tones else MAJOR
    ensemble = band.pick("strings", "strings", "keyboard", "winds")
    hall = band.between(0.5, 0.9)
    if ensemble == "keyboard":
        player = score.part(band.voice("piano", "harpsichord"), 0.5, hall / 2)
        broken = (0, 2, 1, 2) if meter == 4 else (0, 1, 2)
        for bar in range(score.bars):
            tones = form[bar % len(form)].near(score.key, 48)
            for step in range(2 * meter):
                score.play(player, bar * meter + step / 2, tones[broken[step % len(broken)]], 0.6)
        lead = player
    else:
        low = score.part(band.voice("cello"), 0.5, hall)
        score.bass(low, form, ("r=.", "r=f") if meter == 3 else ("r=f=", "r==."), 38)
        names = ("strings",) if ensemble == "strings" else ("clarinet", "oboe", "flute")
        inner = score.part(band.voice(*names), 0.22, hall)
        waltz = ((".xx", ".x="), ("x==",)) if meter == 3 else ((".x.x",), ("x===", "x=x="))
        score.comp(inner, form, band.pick(*waltz), 55, band.between(0.4, 0.95))
        lead = score.part(band.voice("strings", "flute", "oboe", "fiddle", "clarinet"), 0.5, hall)
    rhythms = ("x===x=", "x=x=x=", "x=====", "xxx=x=") if meter == 3 else ("x===x=x=", "x=x=x===")
    score.tune(lead, scale, rhythms, form, 67 + band.pick(0, 3, 5), 1.1, 0.95)
    swell = 1 + 0.4 * np.sin(np.linspace(0, 2 * np.pi, len(lead.sound)) + score.rng.uniform(0, 6))
    lead.sound *= swell
    return score


def country(band: Band, begin: Begin) -> Score:
    """Boom-chick: the bass alternates root and fifth, the guitar strums between."""
    score = begin(bpm=band.between(92, 138), swing=band.pick(0.5, 0.5, 0.57))
    form = song_of(
        score, band.two(chords("I I IV I I I V I"), chords("I IV I V"), chords("I V IV I"))
    )
    bass = score.part(band.voice("upright bass", "picked bass"), 0.45)
    score.bass(bass, form, ("r=f=",), 33, 0.7)
    strum = score.part(band.voice("acoustic guitar"), band.between(0.3, 0.45), 0.15)
    score.comp(strum, form, band.two("..X...Xx", "..Xo..Xo", ".oX..oX."), 55, 0.8, 0.012)
    drums = score.part(band.kit(), band.between(0.8, 1.1))
    if band.often(0.5):  # the train beat, on brushes
        score.beat_out(drums, "brush", "-oX--oX--oX--oX-", 0.8)
    else:
        score.beat_out(drums, "side stick", "..X...X.", 0.8)
        score.beat_out(drums, "closed hat", "o-o-o-o-", 0.6)
    score.beat_out(drums, "kick", "X...X...", 0.8)
    lead = score.part(band.voice("steel guitar", "steel guitar", "fiddle"), 0.22, 0.3)
    score.tune(lead, PENTATONIC, ("x===x===", "x=x=x===", "..x=x=x="), form, 62)
    roll = score.part(band.voice("banjo", "banjo", "clean guitar"), band.pick(0.15, 0.3, 0.4), 0.15)
    for bar in range(score.bars):
        tones = form[bar % len(form)].near(score.key, 60)
        for step in range(8):
            score.play(roll, 4 * bar + step / 2, tones[(0, 1, 2, 0, 1, 2, 1, 2)[step]], 0.4)
    return score


def jazz(band: Band, begin: Begin) -> Score:
    """A swung ride, a walking bass, chords off the beat, a solo in eighths."""
    bpm = band.between(112, 200)
    score = begin(bpm=bpm, swing=band.between(0.6, 0.67), looseness=0.008)
    form = song_of(
        score,
        band.two(chords("ii9 V9 IM9 VI7"), chords("ii7 V7 iii7 VI9"), chords("IM9 vi9 ii9 V9")),
    )
    drums = score.part(band.kit(), band.between(0.7, 1.2), 0.2)
    score.beat_out(drums, "ride", "X.XxX.Xx", band.between(0.7, 1.0))
    score.beat_out(drums, "pedal hat", "..X...X.", 0.5)
    score.beat_out(drums, "brush", "X.x.X.x.", band.pick(0.0, 0.4))
    bass = score.part(band.voice("upright bass"), 0.45)
    for bar in range(score.bars):
        here, there = (form[b % len(form)].bass(score.key, 33) for b in (bar, bar + 1))
        tones = form[bar % len(form)].tones
        line = (here, here + tones[0] % 12, here + 7, there + score.rng.choice((-1, 1)))
        for beat, pitch in enumerate(line):
            score.play(bass, 4 * bar + beat, pitch, 0.9)
    comp = score.part(band.voice("piano", "piano", "clean guitar", "vibraphone"), 0.2, 0.2)
    score.comp(comp, form, band.two("...X=...", ".x....x=", "x..x....", "......x."), 58, 0.7)
    names = ("saxophone", "saxophone", "trumpet", "vibraphone", "piano", "clarinet")
    solo = score.part(band.voice(*names), 0.24, 0.3)
    lines = ("xxxxxxxx", ".xxxxxx=", "xx.xxxx=", "x=.xxxxx", "...xxxxx")
    score.tune(solo, band.pick(MAJOR, DORIAN), lines, form, 60 + band.pick(0, 3, 7))
    return score


def reggae(band: Band, begin: Begin) -> Score:
    """One drop: the weight on the third beat, chords chopped off the beat, a deep, gappy bass."""
    score = begin(bpm=2 * band.between(62, 84), swing=band.pick(0.5, 0.56), looseness=0.005)
    form = song_of(
        score,
        band.two(chords("i i bVII bVII"), chords("I I IV IV"), chords("i i iv iv"), chords("I ii")),
    )
    drums = score.part(band.kit(), band.between(0.9, 1.3), band.between(0.1, 0.4))
    score.beat_out(drums, "kick", band.pick("..X.", "..X.", "X.X."))
    score.beat_out(drums, band.pick("side stick", "snare"), "..X.", 0.7)
    score.beat_out(drums, "closed hat", band.pick("x-x-x-x-", "-x-x-x-x", "x.x.x.x."), 0.35)
    skank = score.part(band.voice("clean guitar", "clean guitar", "piano"), 0.4, 0.2)
    score.comp(skank, form, (band.pick(".X.X", ".X.X", ".Xo..Xo."),), 59, band.between(0.25, 0.4))
    bubble = score.part(band.voice("organ"), band.between(0.0, 0.25), 0.1)
    score.comp(bubble, form, (band.pick(".ooo.ooo", "..oo..oo", ".x.x.x.x"),), 57, 0.5)
    bass = score.part(band.voice("finger bass", "sub bass"), 0.6, 0.0, tone=700)
    lines = band.two("r=.rt.f=", "r==.f=t.", "..rrf.t=", "r.f=..o=", "o=f=r...")
    score.bass(bass, form, lines, 31, 0.8)
    if band.often(0.7):
        lead = score.part(band.voice("singer", "brass", "organ"), 0.16, 0.5)
        score.tune(
            lead,
            MINOR_PENTATONIC if 3 in form[0].tones else PENTATONIC,
            ("x=x=x===", "........", "..x=x==="),
            form,
            60,
        )
    return score
