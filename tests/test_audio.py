"""Sound files, intact and damaged: read, or refused with a reason; no crash, no large array."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from genrepro.audio import SOUNDS, AudioFault, Stream, extension_of, inspect, read, resample
from tests.support.encoded import encode
from tests.support.samples import ROOT

RATE = 22_050
CASES = ROOT / "tests" / "cases"


def tone(seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * 440 * time)] * channels, axis=1)


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
def test_every_format_reads_as_mono_at_its_own_rate(tmp_path, extension):
    path = tmp_path / f"naïve clip, 音.{extension}"
    soundfile.write(path, tone(channels=2), RATE)
    samples, rate = read(path)
    assert rate == RATE
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) == pytest.approx(RATE, rel=0.12)  # MP3 pads
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.1)
    found, _ = inspect(path)
    assert (found.sample_rate, found.channels, found.cut_short) == (RATE, 2, None)
    assert found.seconds == pytest.approx(len(samples) / RATE, abs=1e-3)
    assert extension_of(path.read_bytes()) == f".{extension}"


def test_six_channels_are_averaged(tmp_path):
    six = np.zeros((RATE, 6))
    six[:, 3] = 0.6
    six[::2] *= -1
    soundfile.write(tmp_path / "six.wav", six, RATE, subtype="FLOAT")
    samples, _ = read(tmp_path / "six.wav")
    np.testing.assert_allclose(np.abs(samples), 0.1, atol=1e-6)


def test_192_khz_is_read_and_resampled_in_tune(tmp_path):
    soundfile.write(tmp_path / "high.flac", tone(rate=192_000), 192_000)
    samples, rate = read(tmp_path / "high.flac")
    down = resample(samples, rate, 16_000)
    assert len(down) == 16_000
    assert np.abs(np.fft.rfft(down)).argmax() == 440
    assert resample(samples, rate, rate) is samples


def test_reading_stops_at_max_seconds(tmp_path):
    soundfile.write(tmp_path / "long.wav", tone(5.0), RATE)
    samples, _ = read(tmp_path / "long.wav", max_seconds=1.5)
    whole, _ = read(tmp_path / "long.wav")
    assert len(samples) == round(1.5 * RATE)
    np.testing.assert_array_equal(samples, whole[: len(samples)])


def faulty(folder: Path) -> dict[str, str]:
    """Write damaged files; return a word of the expected reason for each."""
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is not audio\n" * 100)
    (folder / "half a header.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt ")
    nan = tone()
    nan[RATE // 2] = np.nan
    soundfile.write(folder / "nan.wav", nan, RATE, subtype="FLOAT")
    nan[RATE // 2] = np.inf
    soundfile.write(folder / "inf.wav", nan, RATE, subtype="FLOAT")
    soundfile.write(folder / "loud.wav", tone() * 1e9, RATE, subtype="FLOAT")
    soundfile.write(folder / "short.flac", tone(0.01), RATE)
    soundfile.write(folder / "silent.flac", np.zeros(RATE), RATE)
    soundfile.write(folder / "constant.wav", np.full(RATE, 0.5), RATE)
    soundfile.write(folder / "slow.wav", tone(), 50)
    (folder / "no samples.wav").write_bytes(wav_header(RATE, 1, 0))
    return {
        "empty.wav": "empty file",
        "text.wav": "is text, not audio",
        "half a header.wav": "",
        "nan.wav": "NaN",
        "inf.wav": "infinity",
        "loud.wav": "full scale",
        "short.flac": "lasts 0.010 s",
        "silent.flac": "silence",
        "constant.wav": "silence",
        "slow.wav": "sample rate of 50 Hz",
        "no samples.wav": "no samples",
    }


def wav_header(rate: int, channels: int, size: int) -> bytes:
    """A 16-bit WAV header that promises `size` bytes of samples."""
    width = 2 * channels & 0xFFFF
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * width & 0xFFFFFFFF, width, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", min(36 + size, 2**32 - 1)) + body


def test_damaged_files_are_refused_with_a_reason_without_a_path(tmp_path):
    for name, word in faulty(tmp_path).items():
        with pytest.raises(AudioFault) as caught:
            inspect(tmp_path / name)
        assert word in str(caught.value), (name, caught.value)
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("extension", ["flac", "ogg", "mp3", "wav"])
def test_a_truncated_file_is_read_up_to_the_cut(tmp_path, extension):
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE)
    path = tmp_path / f"whole.{extension}"
    soundfile.write(path, noise, RATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    found, _ = inspect(path)
    assert 1.0 < found.seconds < 3.0
    assert len(read(path)[0]) == pytest.approx(found.seconds * RATE, abs=RATE / 1000)
    if extension == "flac":
        assert "stopped after" in found.cut_short or "promises" in found.cut_short


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("name", ["PCM_16.wav", "PCM_24.wav", "FLOAT.wav", "PCM_16.flac"])
def test_samples_equal_libsndfile_s(tmp_path, name, channels):
    """Over several blocks, bit for bit."""
    noise = np.random.default_rng(0).normal(0, 0.1, (60_000, channels))
    soundfile.write(tmp_path / name, noise, RATE, subtype=name.split(".")[0])
    expected, _ = soundfile.read(tmp_path / name, dtype="float32", always_2d=True)
    got, _ = read(tmp_path / name)
    np.testing.assert_array_equal(got, expected.mean(axis=1, dtype=np.float32))


def test_an_mp3_read_in_blocks_equals_one_read_at_once(tmp_path):
    """A seek between two reads would spoil the frames after it."""
    noise = np.random.default_rng(0).normal(0, 0.1, 150_000)
    soundfile.write(tmp_path / "noise.mp3", noise, RATE)
    whole, _ = soundfile.read(tmp_path / "noise.mp3", dtype="float32")
    with Stream(tmp_path / "noise.mp3") as stream:
        blocks = list(stream)
    assert len(blocks) > 1
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


def test_a_damaged_flac_is_read_almost_up_to_the_damage(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 150_000)
    path = tmp_path / "noise.flac"
    soundfile.write(path, noise, RATE)
    whole, _ = read(path)
    content = bytearray(path.read_bytes())
    at = round(0.8 * len(content))
    content[at] ^= 0xFF
    path.write_bytes(content)
    with Stream(path) as stream:
        got = np.concatenate(list(stream))
    assert "stopped after" in stream.cut_short
    assert 0.7 * len(whole) < len(got) < 0.8 * len(whole)
    np.testing.assert_array_equal(got, whole[: len(got)])


@pytest.mark.parametrize(
    "lie",
    [
        wav_header(RATE, 1, 2**32 - 1000) + b"\1\0" * 2000,
        wav_header(RATE, 65_535, 2**31) + b"\1\0" * 2000,
        wav_header(2**32 - 1, 1, 4000) + b"\1\0" * 2000,
        wav_header(1, 2, 2**30) + b"\1\0" * 2000,
    ],
    ids=["hours", "channels", "rate", "slow"],
)
def test_a_false_header_takes_no_memory(tmp_path, lie):
    (tmp_path / "lie.wav").write_bytes(lie)
    tracemalloc.start()
    try:
        samples, _ = read(tmp_path / "lie.wav")
        assert len(samples) <= 4000
    except AudioFault:
        pass
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_only_the_head_is_kept(tmp_path):
    soundfile.write(tmp_path / "long.wav", tone(40.0), RATE)
    found, head = inspect(tmp_path / "long.wav", head_seconds=13.0)
    assert found.seconds == 40.0
    assert len(head) == 13 * RATE


def test_blocks_come_in_order(tmp_path):
    wave = np.arange(30 * RATE) / (40 * RATE)
    soundfile.write(tmp_path / "ramp.wav", wave, RATE, subtype="FLOAT")
    with Stream(tmp_path / "ramp.wav") as stream:
        blocks = list(stream)
    assert len(blocks) > 1
    np.testing.assert_allclose(np.concatenate(blocks), wave, atol=1e-6)


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3", "m4a", "wma", "mka"])
def test_damaged_bytes_are_read_or_refused(tmp_path, extension):
    """Sixty damaged files per format, with a fixed seed."""
    random = np.random.default_rng(7)
    path = tmp_path / f"whole.{extension}"
    noise = random.normal(0, 0.1, (RATE // 2, 2))
    codec = {"m4a": "aac", "wma": "wmav2", "mka": "flac"}.get(extension)
    if codec:
        encode(path, noise.T, RATE, codec)
    else:
        soundfile.write(path, noise, RATE)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(60):
        content = whole.copy()
        at = random.integers(0, min(len(content), 200 if random.random() < 0.6 else 10**9), 8)
        content[at] = random.integers(0, 256, 8)
        if random.random() < 0.3:
            content = content[: random.integers(len(content))]
        path.write_bytes(content.tobytes())
        try:
            samples, _ = read(path)
            assert np.isfinite(samples).all()
            assert len(samples) < 100 * RATE
            outcomes["read"] += 1
        except AudioFault as fault:
            assert "\n" not in str(fault)
            outcomes["refused"] += 1
    assert outcomes["refused"]


@pytest.mark.parametrize(
    "name",
    ["au", "aiff", "oga", "opus", "wave", "m4a"],
)
def test_what_people_have_is_a_clip(name):
    name = f"one-second.{name}"
    found, _ = inspect(CASES / name)
    assert found.seconds == pytest.approx(1.0, abs=0.03)  # AAC is padded to its frame
    assert found.cut_short is None
    assert Path(name).suffix in SOUNDS


def test_an_mp3_of_variable_bit_rate_without_a_header_is_read_whole():
    """libsndfile stops at a length that it estimates from the first frame's bit rate: 7.4 s."""
    found, _ = inspect(CASES / "vbr-no-header.mp3")
    assert found.seconds == pytest.approx(20.0, abs=0.1)
    assert found.cut_short is None
    estimated, _ = soundfile.read(CASES / "vbr-no-header.mp3", dtype="float32")
    samples, _ = read(CASES / "vbr-no-header.mp3")
    np.testing.assert_allclose(samples[: len(estimated)], estimated, atol=1e-5)
    assert np.abs(samples[-5 * RATE : -RATE]).max() > 0.01


@pytest.mark.parametrize(
    ("name", "seconds", "words"),
    [
        ("cut-in-the-middle.wav", 1.0, "holds 1.0 s of the 3.0 s that its header promises"),
        ("cut-in-the-middle.mp3", 6.5, "holds 6.5 s of the 19.9 s that its header promises"),
    ],
)
def test_what_a_header_promises_and_is_missing_is_reported(name, seconds, words):
    found, _ = inspect(CASES / name)
    assert found.seconds == pytest.approx(seconds, abs=0.05)
    assert words in found.cut_short


def test_a_recording_whose_size_was_never_written_is_read_whole():
    assert inspect(CASES / "data-size-zero.wav")[0].seconds == pytest.approx(3.0, abs=0.01)


def test_a_size_that_a_pipe_could_not_know_is_not_a_promise(tmp_path):
    content = wav_header(RATE, 1, 2**32 - 1) + b"\1\0\2\0" * RATE
    (tmp_path / "piped.wav").write_bytes(content)
    assert inspect(tmp_path / "piped.wav")[0].cut_short is None


def test_channels_that_cancel_out_are_not_silence(tmp_path):
    found, head = inspect(CASES / "antiphase.wav", 10.0)
    assert "cancel out" in found.remark
    samples, _ = read(CASES / "antiphase.wav")
    stored, _ = soundfile.read(CASES / "antiphase.wav", dtype="float32")
    np.testing.assert_array_equal(samples, stored[:, 0])
    np.testing.assert_array_equal(head, samples)
    soundfile.write(
        tmp_path / "stereo.wav", np.random.default_rng(0).normal(0, 0.1, (RATE, 2)), RATE
    )
    assert inspect(tmp_path / "stereo.wav")[0].remark is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("web-page.mp3", "is a web page, not audio"),
        (bytes(70_000), "begins with 65536 bytes of zeros"),
        (b"\0\0\0\x18ftypM4A \0", "is an MP4 or M4A file whose sound is missing, damaged or"),
        (bytes(range(256)) * 9, "in no audio format that can be decoded"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "is a picture or a document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"PK\3\4" + bytes(range(100)), "is an archive"),
        (b"Not found. Try again.\n", "is text, not audio"),
    ],
)
def test_what_is_not_audio_is_named(tmp_path, name, words):
    path = CASES / name if isinstance(name, str) else tmp_path / "clip.mp3"
    if isinstance(name, bytes):
        path.write_bytes(name)
    with pytest.raises(AudioFault) as caught:
        inspect(path)
    assert words in str(caught.value)
