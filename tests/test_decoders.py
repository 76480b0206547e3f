"""What both libraries decode, beside each other; what was promised and is missing, is listed."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import soundfile

from genrepro.audio import AudioFault, inspect, read, resample
from genrepro.decoders import FFmpeg, Libsndfile, open_decoder
from tests.support.encoded import Written, encode, every_kind, mp3, music
from tests.support.samples import ROOT

RATE = 22_050
CASES = ROOT / "tests" / "cases"
FASTSTART = {"movflags": "faststart"}  # the header before the sound, as from the Web


def by_ffmpeg(path) -> tuple[np.ndarray, int]:
    """All of a file's sound, as mono, and its rate in Hz."""
    file = FFmpeg(path)
    samples = np.concatenate(list(file.blocks(float("inf")))).mean(axis=1)
    file.close()
    return samples, file.sample_rate


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    count = min(len(a), len(b))
    return float(np.corrcoef(a[:count], b[:count])[0, 1])


@pytest.mark.parametrize("tag", [0, 20_000, 2_000_000])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("mode", ["constant", "average", "variable"])
def test_an_mp3_is_read_as_by_ffmpeg(tmp_path, mode, header, tag):
    """Whatever its bit rate, with or without a Xing header, behind a cover of any size."""
    sound = music(3.0, RATE)
    path = mp3(tmp_path / "a.mp3", sound, RATE, mode, header, tag)
    samples, _ = read(path)
    theirs, _ = by_ffmpeg(path)
    assert len(samples) == pytest.approx(len(theirs), abs=0.05 * RATE)
    assert correlation(samples, theirs) > 0.99
    late = 0 if header else 1105  # samples: the encoder's delay, which the header tells
    assert correlation(samples[late:], sound) > 0.95
    assert len(samples) == pytest.approx(len(sound), abs=0 if header else 0.1 * RATE)
    assert inspect(path)[0].cut_short is None
    assert isinstance(open_decoder(path), Libsndfile if header else FFmpeg)


@pytest.mark.parametrize(
    ("name", "codec", "kind", "least"),
    [
        ("a.m4a", "aac", None, 0.99),
        ("a.m4a", "alac", "ipod", 0.9999),
        ("a.mp4", "aac", None, 0.99),
        ("a.mov", "pcm_s16le", None, 0.9999),
        ("a.mka", "flac", None, 0.9999),
        ("a.flac.ogg", "flac", "ogg", 0.9999),
        ("a.wv", "wavpack", None, 0.999),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_libsndfile_does_not_read_is_decoded_too(tmp_path, name, codec, kind, least, channels):
    sound = music(1.5, RATE)
    path = encode(tmp_path / name, np.stack([sound] * channels), RATE, codec, kind)
    samples, rate = read(path)
    assert (rate, inspect(path)[0].channels) == (RATE, channels)
    assert len(samples) == pytest.approx(len(sound), abs=1024)
    assert correlation(samples, sound) > least
    assert inspect(path)[0].cut_short is None
    np.testing.assert_array_equal(read(path, 1.0)[0], samples[:RATE])


@pytest.mark.parametrize(
    ("name", "codec", "kind"), [("a.wma", "wmav2", "asf"), ("a.aac", "aac", "adts")]
)
def test_codecs_with_a_delay_are_read_whole(tmp_path, name, codec, kind):
    path = encode(tmp_path / name, music(1.5, RATE), RATE, codec, kind)
    assert inspect(path)[0].seconds == pytest.approx(1.5, abs=0.1)
    assert inspect(path)[0].cut_short is None


def test_webm_from_a_browser_is_read(tmp_path):
    sound = music(1.5, 48_000)
    path = encode(tmp_path / "a.webm", sound, 48_000, "libopus")
    assert correlation(read(path)[0], sound) > 0.9
    assert inspect(path)[0].seconds == pytest.approx(1.5, abs=0.03)


def test_antiphase_is_not_silence_in_an_m4a_either(tmp_path):
    sound = music(1.0, RATE)
    path = encode(tmp_path / "a.m4a", np.stack([sound, -sound]), RATE, "alac", "ipod")
    assert correlation(read(path)[0], sound) > 0.9999
    assert "cancel out" in inspect(path)[0].remark


WHOLE = {
    "wav": lambda path, sound: soundfile.write(path, sound, RATE),
    "flac": lambda path, sound: soundfile.write(path, sound, RATE),
    "ogg": lambda path, sound: soundfile.write(path, sound, RATE),
    "mp3": lambda path, sound: soundfile.write(path, sound, RATE),
    "aiff": lambda path, sound: soundfile.write(path, sound, RATE),
    "au": lambda path, sound: soundfile.write(path, sound, RATE),
    "w64": lambda path, sound: soundfile.write(path, sound, RATE),
    "rf64": lambda path, sound: soundfile.write(path, sound, RATE),
    "m4a": lambda path, sound: encode(path, sound, RATE, "aac", None, FASTSTART),
    "wma": lambda path, sound: encode(path, sound, RATE, "wmav2", "asf"),
    "webm": lambda path, sound: encode(
        path, sound, 48_000, "libopus"
    ),  # the one rate that it takes
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_cut_at_any_of_ten_places_is_listed_or_refused(tmp_path, kind):
    path = tmp_path / f"whole.{kind}"
    WHOLE[kind](path, np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32))
    whole, _ = inspect(path)
    assert whole.cut_short is None
    content, listed = path.read_bytes(), 0
    for place in range(1, 11):
        path.write_bytes(content[: len(content) * place // 11])
        try:
            found, _ = inspect(path)
        except AudioFault:
            continue
        assert found.cut_short, (kind, place, found)
        assert found.seconds < whole.seconds
        listed += 1
    assert listed >= 6


def test_recordings_in_a_row_are_read_to_the_end(tmp_path):
    """Concatenated MP3s, whose header counts the first alone, and chained Ogg."""
    parts = []
    for number, header in enumerate([True, False]):
        path = mp3(
            tmp_path / f"{number}.mp3", music(1.0, RATE, number), RATE, "variable", header, 0
        )
        parts.append(path.read_bytes())
    for order in ([0, 0], [0, 1], [1, 0], [1, 1]):
        path = tmp_path / "both.mp3"
        path.write_bytes(b"".join(parts[number] for number in order))
        assert inspect(path)[0].seconds == pytest.approx(2.1, abs=0.1)
    found, _ = inspect(CASES / "chained.ogg")
    assert found.seconds == pytest.approx(4.0, abs=0.02)
    assert found.cut_short is None


def test_an_mp3_whose_rate_and_channels_change_is_read_to_the_end(tmp_path):
    """As its beginning, in tune."""
    time = np.arange(44_100) / 44_100
    fifth = np.stack([0.5 * np.sin(2 * np.pi * 660 * time)] * 2)
    first = mp3(tmp_path / "1.mp3", music(1.0, RATE), RATE, "constant", True, 0)
    second = mp3(tmp_path / "2.mp3", fifth, 44_100, "constant", True, 0)
    (tmp_path / "both.mp3").write_bytes(first.read_bytes() + second.read_bytes())
    samples, rate = read(tmp_path / "both.mp3")
    assert rate == RATE
    assert len(samples) / RATE == pytest.approx(2.1, abs=0.1)
    late = samples[-RATE // 2 :]
    assert np.abs(np.fft.rfft(late)).argmax() * 2 == pytest.approx(660, abs=4)


def test_zeros_before_an_mp3_do_not_hide_it():
    assert inspect(CASES / "zeros-before.mp3")[0].seconds == pytest.approx(3.0, abs=0.1)


def test_damage_inside_is_passed_over_and_listed(tmp_path):
    path = encode(tmp_path / "a.m4a", music(3.0, RATE), RATE, "aac", None, FASTSTART)
    content = bytearray(path.read_bytes())
    middle = len(content) * 2 // 3
    content[middle : middle + 4000] = bytes(255 for _ in range(4000))
    path.write_bytes(content)
    found, _ = inspect(path)
    assert found.cut_short
    assert found.seconds > 2.0


@pytest.mark.parametrize("name", ["playlist.m3u8", "list.ffconcat", "list.mp3"])
def test_a_playlist_opens_no_other_file(tmp_path, name):
    secret = tmp_path / "secret.wav"
    soundfile.write(secret, music(1.0, RATE), RATE)
    words = f"ffconcat version 1.0\nfile '{secret}'\n"
    if name.endswith("m3u8"):
        words = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"
    (tmp_path / name).write_text(words)
    for reader in (read, FFmpeg):
        with pytest.raises(AudioFault):
            reader(tmp_path / name)


def test_names_that_libraries_misread_are_plain_names(tmp_path):
    names = ["http:a.m4a", "concat:a|b.m4a", "no UTF-8 \udcff.m4a", "-i.m4a", "%03d.m4a"]
    content = encode(tmp_path / "a.m4a", music(0.5, RATE), RATE, "aac").read_bytes()
    for name in names:
        (tmp_path / name).write_bytes(content)
        assert inspect(tmp_path / name)[0].seconds == pytest.approx(0.5, abs=0.05)


APPROXIMATE = {"HTK", "VOC", "WVE", "XI"}  # they round the rate, or hold none


def agreement(file: Written) -> str:
    """How the reader, FFmpeg and what was written compare, for one file."""
    try:
        samples, rate = read(file.path)
    except AudioFault:
        return "skipped"
    if inspect(file.path)[0].cut_short:
        return "listed as cut short"
    right = correlation(samples, file.samples.mean(axis=1))
    if file.kind not in APPROXIMATE:
        assert rate == file.rate, file.path.name
        assert len(samples) == pytest.approx(len(file.samples), abs=0.05 * rate), file.path.name
    try:
        theirs, their_rate = by_ffmpeg(file.path)
    except AudioFault:
        return "decoded here alone" if right > 0.95 else "different"
    theirs = resample(theirs, their_rate, rate)
    if correlation(samples, theirs) > 0.99 and abs(len(samples) - len(theirs)) <= 0.05 * rate:
        return "the same as FFmpeg"
    better = right > 0.95 and right > correlation(theirs, file.samples.mean(axis=1))
    return "as written, unlike FFmpeg" if better else "different"


@pytest.mark.slow
def test_every_format_of_libsndfile_is_read_as_by_ffmpeg(tmp_path):
    """docs/sounds.md gives these numbers; what is skipped is raw, without a header."""
    found = {file.path.name: agreement(file) for file in every_kind(tmp_path)}
    skipped = {name for name, words in found.items() if words == "skipped"}
    assert {name.split("-")[0] for name in skipped} == {"RAW"}
    assert collections.Counter(found.values()) == {
        "the same as FFmpeg": 256,
        "decoded here alone": 102,
        "as written, unlike FFmpeg": 11,
        "skipped": 43,
    }
