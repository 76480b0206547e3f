"""Classify sound files with the ONNX model in this folder: python classify.py FILE...

It needs onnxruntime, soundfile, soxr and numpy, and only the files of this folder. As in the
evaluation of the model, it uses at most the first `max_seconds` of a file, a number that is in
preprocessor_config.json.
"""

from __future__ import annotations

import json
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
        """The labels with their probabilities, the most probable first."""
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        samples = samples[: round(self.audio["max_seconds"] * rate)].mean(axis=1)
        wave = soxr.resample(samples, rate, self.audio["sampling_rate"], quality="HQ")
        if len(wave) < 0.1 * self.audio["sampling_rate"]:
            raise ValueError(f"{path}: at least 0.1 s of sound are needed")
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


if __name__ == "__main__":
    classifier = Classifier(Path(__file__).parent)
    for file in sys.argv[1:]:
        likely = list(classifier(file).items())[:3]
        print(file, ", ".join(f"{label} {probability:.3f}" for label, probability in likely))
