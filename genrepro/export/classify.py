"""Classify sound files with the ONNX model in this folder: python classify.py FILE...

It needs onnxruntime, soundfile, soxr and numpy, and only the files of this folder. As in the
evaluation of the model, it uses at most the first `max_seconds` of a file, a number that is in
preprocessor_config.json.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import soxr


class Classifier:
    def __init__(self, folder: Path) -> None:
        labels = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        self.labels = [labels[str(index)] for index in range(len(labels))]
        self.audio = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        self.session = onnxruntime.InferenceSession(folder / "onnx/model.onnx")
        mel = folder / "onnx/mel_filters.npy"  # (frequencies, bands), if the model takes them
        self.mel_filters = np.load(mel) if mel.exists() else None

    def __call__(self, path: str) -> dict[str, float]:
        """The labels with their probabilities, the most probable first.

        Raises ValueError, in one sentence, for what it cannot classify.
        """
        wave = read(path, self.audio)
        name = self.session.get_inputs()[0].name
        logits = [
            self.session.run(["logits"], {name: self.features(segment)[None]})[0][0]
            for segment in self.segments(wave)
        ]
        scores = np.exp(np.mean(logits, axis=0, dtype=np.float64))
        ranked = zip(self.labels, (scores / scores.sum()).tolist())
        return dict(sorted(ranked, key=lambda pair: -pair[1]))

    def segments(self, wave: np.ndarray) -> list[np.ndarray]:
        """Cut as for training; the last segment is moved back to end with the clip."""
        rate = self.audio["sampling_rate"]
        length, hop = (round(self.audio[key] * rate) for key in ("segment_seconds", "hop_seconds"))
        if len(wave) <= length + 1:
            return [wave[:length]]
        starts = list(range(0, len(wave) - length + 1, max(1, hop)))
        if starts[-1] + length < len(wave) - 1:
            starts.append(len(wave) - length)
        return [wave[start : start + length] for start in starts]

    def features(self, wave: np.ndarray) -> np.ndarray:
        """What the model takes, rounded to half precision as for training."""
        kind = self.audio["feature_extractor_type"]
        by_kind = {"ASTFeatureExtractor": self.ast, "WhisperFeatureExtractor": self.whisper}
        found = by_kind.get(kind, self.waveform)(wave)
        return found.astype(np.float32).astype(np.float16).astype(np.float32)

    def waveform(self, wave: np.ndarray) -> np.ndarray:
        if not self.audio["do_normalize"]:
            return wave
        return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)

    def ast(self, wave: np.ndarray) -> np.ndarray:
        """Kaldi's filter bank, (frames, bands)."""
        frames = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), 400)[::160]
        frames = frames - frames.mean(axis=1, keepdims=True)
        before = np.hstack([frames[:, :1], frames[:, :-1]])
        frames = (frames - 0.97 * before) * np.hanning(400)
        power = np.abs(np.fft.rfft(frames, 512)) ** 2 @ self.mel_filters
        bands = np.log(np.maximum(power, 1.192092955078125e-07))[: self.audio["max_length"]]
        bands = np.pad(bands, ((0, self.audio["max_length"] - len(bands)), (0, 0)))
        if not self.audio["do_normalize"]:
            return bands
        return (bands - self.audio["mean"]) / (2 * self.audio["std"])

    def whisper(self, wave: np.ndarray) -> np.ndarray:
        """Whisper's log-mel spectrogram, (bands, frames)."""
        size, hop = self.audio["n_fft"], self.audio["hop_length"]
        wave = np.pad(wave.astype(np.float64), (0, self.audio["n_samples"] - len(wave)))
        wave = np.pad(wave, size // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop][:-1]
        power = np.abs(np.fft.rfft(frames * np.hanning(size + 1)[:-1])) ** 2 @ self.mel_filters
        bands = np.log10(np.maximum(power, 1e-10)).T
        return (np.maximum(bands, bands.max() - 8) + 4) / 4


def read(path: str, audio: dict) -> np.ndarray:
    """A file's first `max_seconds`, read as for training: (samples,) float32, mono, resampled."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        with soundfile.SoundFile(path) as file:
            kind, rate = file.format, file.samplerate
            wanted = round(audio["max_seconds"] * rate)
            sound = file.read(wanted, dtype="float32", always_2d=True)
    except (RuntimeError, TypeError, ValueError) as error:  # LibsndfileError is the first
        words = getattr(error, "error_string", str(error)).rstrip(".")
        raise ValueError(f"{path}: soundfile cannot read it ({words}); try WAV") from None
    if holds_more(path, kind):
        raise ValueError(f"{path}: soundfile would read a part of it only; try WAV")
    if len(sound) < 0.1 * rate or not np.isfinite(sound).all():
        raise ValueError(f"{path}: at least 0.1 s of sound, in finite numbers, are needed")
    return soxr.resample(mixed(sound), rate, audio["sampling_rate"], quality="HQ")


def holds_more(path: str, kind: str) -> bool:
    """Whether libsndfile passes over sound: in an MP3 whose Xing header is missing or does not
    count all of its bytes, and in an Ogg file after the first of several recordings."""
    content = Path(path).read_bytes() if kind in ("MP3", "OGG") else b""
    if kind == "OGG":
        return len(re.findall(rb"OggS\0[\2\3]", content)) > 1
    if content[:3] == b"ID3":  # its length has 7 bits in each byte
        sizes = zip(content[6:10], (21, 14, 7, 0))
        content = content[10 + sum((byte & 127) << shift for byte, shift in sizes) :]
    header = re.search(rb"(?:Xing|Info)\0\0\0[\3\7\v\x0f]....(....)", content[:512], re.DOTALL)
    counted = int.from_bytes(header[1], "big") if header else 0
    return kind == "MP3" and counted + 512 < len(content)


def mixed(sound: np.ndarray) -> np.ndarray:
    """The mean of the channels; the first one where they cancel out. (samples, channels) in."""
    size = max(1, 65_536 // sound.shape[1])  # decided block by block, as for training
    blocks = []
    for block in np.split(sound, range(size, len(sound), size)):
        mean, first = block.mean(axis=1), block[:, 0]
        blocks.append(first if np.ptp(mean) < 0.01 * np.ptp(first) else mean)
    return np.concatenate(blocks)


if __name__ == "__main__":
    classifier = Classifier(Path(__file__).parent)
    failed = False
    for file in sys.argv[1:]:
        try:
            likely = list(classifier(file).items())[:3]
        except ValueError as error:
            failed = True
            print(error, file=sys.stderr)
            continue
        print(file, ", ".join(f"{label} {probability:.3f}" for label, probability in likely))
    sys.exit(failed)
