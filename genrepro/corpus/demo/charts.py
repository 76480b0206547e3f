"""Disco, hip-hop, metal, pop, rock: one function each, in which a band plays one song.

What makes the genre (tempo, rhythm, harmony, instruments) is fixed; what differs between its bands
is drawn from `band`, and what differs between a band's songs from `score.rng`. `band` draws the
same values for every song, so none of its draws may depend on the song.
"""

from __future__ import annotations

from genrepro.corpus.demo.band import Band, Begin, song_of
from genrepro.corpus.demo.score import MINOR, MINOR_PENTATONIC, PENTATONIC, PHRYGIAN, Score, chords


def disco(band: Band, begin: Begin) -> Score:
    """Four on the floor, open hats between, octaves in the bass, strings above."""
    score = begin(bpm=band.between(112, 128), looseness=0.002)
    form = song_of(
        score,
        band.two(chords("i7 iv9 i7 v7"), chords("i9 bVII9 bVIM7 v7"), chords("ii9 v7 IM7 vi7")),
    )
    drums = score.part(band.kit(), band.between(0.8, 1.1))
    score.beat_out(drums, "kick", "X.X.X.X.", 1.0)
    score.beat_out(drums, "open hat", ".X.X.X.X", band.between(0.65, 0.9))
    score.beat_out(drums, "closed hat", band.pick("o.o.o.o.o.o.o.o.", "oo.ooo.ooo.ooo.o"), 0.5)
    score.beat_out(drums, band.pick("clap", "snare"), "..X...X.", 0.7)
    bass = score.part(band.voice("finger bass", "synth bass", "picked bass"), 0.45)
    score.bass(bass, form, band.two("rorororo", "r.or.oro", "rororofo"), 33, 0.7)
    chuck = score.part(band.voice("clean guitar", "electric piano"), 0.25)
    score.comp(
        chuck, form, band.two("x.xxx.xxx.xxx.xx", "..x..xx...x..xx.", "xxx.xx.xxxx.xx.x"), 60, 0.4
    )
    strings = score.part(band.voice("strings"), band.between(0.12, 0.25), 0.5)
    score.comp(strings, form, band.two("x=======", "x==x....", "....x==="), 67)
    if band.often(0.5):
        stab = score.part(band.voice("brass"), 0.3, 0.3)
        score.comp(stab, form, ("...x..x.", "......xx"), 62, 0.5)
    return score


def hiphop(band: Band, begin: Begin) -> Score:
    """A slow, swung break with a low kick, a looped sample and a rapper."""
    score = begin(bpm=band.between(80, 98), swing=band.between(0.52, 0.62), swing_unit=0.5)
    form = song_of(score, band.two(chords("i7 i7"), chords("i7 bVIM7"), chords("i9 iv9")))
    drums = score.part(band.kit(), band.between(0.9, 1.2), 0.03)
    kicks = band.two("X.....X...X.....", "X..X......X..x..", "X......X.XX.....", "X.x....x..X...x.")
    score.beat_out(drums, band.pick("kick", "808 kick", "808 kick"), song_of(score, kicks), 1.1)
    score.beat_out(drums, band.pick("snare", "snare", "clap"), "....X.......X...", 0.9)
    hats = band.two("x.o.x.o.x.o.x.o.", "xoxoxoxoxoxoxoxo", "x.x.x.xxx.x.x.x.")
    score.beat_out(drums, "closed hat", song_of(score, hats), 0.45)
    sub = score.part(band.voice("sub bass", "synth bass"), 0.5, 0.0)
    score.bass(sub, form, band.two("r==...r...r=....", "r=====..r=......", "r..r......r=..v."), 31)
    loop = score.part(
        band.voice("electric piano", "piano", "strings", "vibraphone"), 0.25, 0.2, tone=2500
    )
    score.comp(
        loop, form, (band.pick("x===..x=..x=....", "x=======........", "..x=..x=..x=..x="),), 57
    )
    flow = ("xx.xxx.xxx.xx.x.", "x.xxx.xxx.xxxx..", "..xxxxx.xx.xxxx.")
    rap = score.part(band.voice("rapper"), band.between(0.38, 0.52), 0.05)
    score.tune(rap, (0, 2), flow, form, 45 + band.pick(0, 4, 12), 1.0, 0.7)
    if band.often(0.8):  # the crackle of the record that the loop was sampled from
        crackle = score.rng.random(len(loop.sound)) < 12 / score.rate
        loop.sound += 2.0 * crackle
    return score


def metal(band: Band, begin: Begin) -> Score:
    """Distorted power chords, palm-muted runs, a double bass drum."""
    score = begin(bpm=band.between(118, 190), looseness=0.002)
    form = song_of(
        score, band.two(chords("i5 i5 bVI5 bVII5"), chords("i5 bII5"), chords("i5 bIII5 bII5 i5"))
    )
    riff = song_of(
        score,
        band.two(
            "X.xxx.xxX.xxX.X.",
            "xxxxxxxxxxxxxxxx",
            "X==.xxxxX==.xxxx",
            "X=======X=======",
            "xx.xx.xx.xx.xxxx",
        ),
    )
    tone = band.between(3000, 5500)
    drive = band.between(8, 20)
    guitar = score.part(band.voice("electric guitar"), band.between(0.35, 0.5), 0.05, drive, tone)
    score.comp(guitar, form, (riff,), 38 + band.pick(-2, 0, 2), band.between(0.6, 0.9))
    bass = score.part(band.voice("picked bass"), 0.4, 0.0, 2)
    score.bass(bass, form, (riff.replace("X", "r").replace("x", "r"),), 28)
    drums = score.part(band.kit(), band.between(0.9, 1.3), 0.1)
    feet = band.two("xxxxxxxxxxxxxxxx", "X.xxX.xxX.xxX.xx", "X.xxx.xxX.xxx.xx")
    score.beat_out(drums, "hard kick", song_of(score, feet), 0.9)
    score.beat_out(
        drums, "snare", band.pick("....X.......X...", "..X...X...X...X.", "........X.......")
    )
    score.beat_out(drums, band.pick("crash", "ride", "open hat"), "X.X.X.X.", 0.4)
    growl = score.part(band.voice("growler"), band.between(0.2, 0.35), 0.1, 3)
    score.tune(growl, (0, 3), ("x==xx=x=", "x=====..", "xxx=xxx="), form, 38)
    if band.often(0.4):
        lead = score.part(band.voice("electric guitar"), 0.25, 0.3, drive, 5000)
        runs = ("xxxxxxxxxxxxxxxx", "x===xxxxx===xxxx", "x=======........")
        score.tune(lead, band.pick(MINOR, PHRYGIAN), runs, form, 64)
    return score


def pop(band: Band, begin: Begin) -> Score:
    """Four chords, synthesizers, a clap and a catchy tune."""
    score = begin(bpm=band.between(96, 126), looseness=0.001)
    loops = (chords("I V vi IV"), chords("vi IV I V"), chords("I vi IV V"), chords("IV I V vi"))
    form = song_of(score, band.two(*loops))
    drums = score.part(band.kit(), band.between(0.9, 1.2), 0.05)
    kicks = band.two("X.......X.X.....", "X..x....X.......", "X..x..x.X..x....", "X...X...X...X...")
    score.beat_out(drums, "kick", song_of(score, kicks))
    score.beat_out(drums, band.pick("clap", "clap", "snare"), "....X.......X...", 0.7)
    score.beat_out(
        drums,
        band.pick("closed hat", "shaker"),
        band.pick("x.x.x.x.", "xoxoxoxo", "x.xxx.xx"),
        0.35,
    )
    bass = score.part(band.voice("synth bass"), 0.4)
    score.bass(bass, form, band.two("r.r.r.r.", "r==r==r=", "r=======", "r.rr.rr."), 31)
    pad = score.part(band.voice("pad"), band.between(0.15, 0.3), 0.4)
    score.comp(pad, form, ("x===",), 55, 1.0)
    pluck = score.part(band.voice("synth pluck", "synth pluck", "piano"), 0.3, 0.3)
    order = band.pick((0, 1, 2, 1), (0, 2, 1, 2), (2, 1, 0, 1))
    steps = band.pick(2, 4)
    for bar in range(score.bars):
        tones = form[bar % len(form)].near(score.key, 67)
        for step in range(4 * steps):
            score.play(pluck, 4 * bar + step / steps, tones[order[step % 4]], 0.9 / steps)
    sung = score.part(band.voice("singer", "singer", "synth lead"), 0.28, 0.3)
    hook = ("x=x=x===", "..xxx=x=", "x==x==x=", "x=x=....")
    score.tune(sung, PENTATONIC, hook, form, 62 + band.pick(0, 3, 5))
    return score


def rock(band: Band, begin: Begin) -> Score:
    """A back beat, eighths on the bass and two crunching guitars."""
    score = begin(bpm=band.between(108, 150), looseness=0.006)
    form = song_of(
        score,
        band.two(
            chords("I5 bVII5 IV5 I5"),
            chords("I5 IV5 V5 IV5"),
            chords("vi5 IV5 I5 V5"),
            chords("i5 bVI5 bIII5 bVII5"),
        ),
    )
    drums = score.part(band.kit(), band.between(0.8, 1.1), 0.15)
    kicks = band.two("X.....x.X.......", "X.....X.XX......", "X..x....X.x.....", "X.......X.x...x.")
    score.beat_out(drums, "kick", song_of(score, kicks))
    score.beat_out(drums, "snare", "....X.......X...", 1.0)
    score.beat_out(drums, band.pick("closed hat", "open hat", "ride"), "X.x.X.x.X.x.X.x.", 0.45)
    bass = score.part(band.voice("picked bass", "finger bass"), 0.4)
    score.bass(bass, form, band.two("rrrrrrrr", "rrrrrrfr", "r.rrr.rr"), 28, 0.85)
    drive = band.between(1.2, 2.5)
    guitar = score.part(band.voice("electric guitar"), 0.32, 0.15, drive, band.between(3500, 6500))
    score.comp(
        guitar, form, band.two("X==X==X=", "Xxxxxxxx", "X===X=x=", "X=.xX=.x"), 45, 0.9, 0.006
    )
    jangle = score.part(band.voice("acoustic guitar", "clean guitar", "organ"), 0.24, 0.15)
    score.comp(jangle, form, band.two("x.xxx.xx", "x=x=x=x="), 57, 0.8, 0.01)
    lead = score.part(band.voice("singer", "singer", "electric guitar"), 0.27, 0.25, 1.5)
    score.tune(
        lead, MINOR_PENTATONIC, ("x=x=x===", "xxx=x===", "..x=xxx="), form, 60 + band.pick(0, 4)
    )
    return score
