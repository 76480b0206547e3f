"""Classify sound files of any length with an exported model, as a whole and over time.

A file is processed in passages of `max_seconds`, the length at which clips of the corpus are cut,
so memory use does not grow with its length. The first passage is processed like a test clip: for a
file that is no longer than that, the prediction equals that of the evaluate stage.

Where transformers is not installed, as in the container of the endpoint, `export/classify.py`
computes the features: probabilities then equal those of evaluate to three decimals.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from genrepro import audio
from genrepro.core.errors import PipelineError, one_line
from genrepro.core.paths import EXPORT, PARITY
from genrepro.core.processes import workers

if TYPE_CHECKING:  # they need what the endpoint's container lacks
    from tools.unlike import Reference, Unlikeness

BATCH = 16  # segments at once; does not change predictions
EQUAL = 1e-3  # logits this close give the same probabilities to three decimals
SILENCE = "silence: there is nothing to classify"
UNLIKE = "unlike anything this model was trained on"
LEAST_REST = 0.1  # of a segment: a shorter rest of a long file is ignored

Run = Callable[[list[np.ndarray]], tuple[np.ndarray, np.ndarray | None]]
Segments = Callable[[np.ndarray], list[np.ndarray]]


class NotASound(audio.AudioFault):
    """Why a file cannot be decoded, unlike one whose sound cannot be classified."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one file.

    Attributes:
        probabilities: label -> probability, the most likely first.
        seconds: how much of the file was processed.
        spans: (segments, 2), each segment's start and end in seconds.
        over_time: (segments, labels), probabilities in the order of `Classifier.labels`.
        cut_short: why decoding stopped before the end of the file, or None.
        remark: what else a person should know about the sound, or None.
        silent: (segments,), true where no sample differs from the others.
        unlikeness: of the segments that are not silent, or None where that is not known.
    """

    probabilities: dict[str, float]
    seconds: float
    spans: np.ndarray
    over_time: np.ndarray
    cut_short: str | None
    remark: str | None
    silent: np.ndarray
    unlikeness: Unlikeness | None

    @property
    def label(self) -> str:
        return next(iter(self.probabilities))

    @property
    def note(self) -> str | None:
        """Why the labels mean little, in a sentence; None where they do not."""
        if self.silent.all():
            return SILENCE
        return UNLIKE if self.unlikeness and self.unlikeness.unlike else None

    def described(self, labels: list[str]) -> dict:
        """Everything as JSON, seconds and probabilities rounded.

        Args:
            labels: in the order of `Classifier.labels`.
        """
        best = self.over_time.argmax(axis=1)
        return {
            "label": self.label,
            "probability": round(self.probabilities[self.label], 6),
            "probabilities": {name: round(p, 6) for name, p in self.probabilities.items()},
            "seconds": round(self.seconds, 3),
            "silent": bool(self.silent.all()),
            **({"unlikeness": self.unlikeness.described()} if self.unlikeness else {}),
            "cut_short": self.cut_short,
            "remark": self.remark,
            "segments": [
                {
                    "start": round(float(start), 3),
                    "end": round(float(end), 3),
                    "label": labels[index],
                    "probability": round(float(row[index]), 6),
                    "silent": bool(silent),
                }
                for (start, end), index, row, silent in zip(
                    self.spans, best, self.over_time, self.silent
                )
            ],
        }


class Classifier:
    """A model folder written by the export stage, loaded on this machine.

    It runs in ONNX Runtime, which starts and runs faster, if the export stage found its results
    equal; otherwise, on a GPU, and to compare with a `reference`, in PyTorch.

    Raises:
        PipelineError: the folder does not exist, or was not written by the export stage.
    """

    def __init__(
        self,
        folder: Path = EXPORT,
        threads: int | None = None,
        reference: Reference | None = None,
    ) -> None:
        self.labels = read_labels(folder)
        self._extractor, self._segments = _features(folder)
        if not hasattr(self._extractor, "segment_seconds"):
            raise PipelineError(
                f"{folder}/preprocessor_config.json does not state the length of a segment, so the "
                "model was not exported by this pipeline: use `transformers.pipeline` for it."
            )
        self._reference = reference
        self._run = _runtime(folder, threads or workers(), profile=reference is not None)

    def file(self, path: Path, longest: float = math.inf) -> Prediction:
        """Classify a sound file.

        Raises:
            NotASound: it cannot be decoded.
            audio.AudioFault: it is shorter than audio.MIN_SECONDS, or longer than `longest`, in s.
        """
        try:
            opened = audio.Stream(path)
        except audio.AudioFault as fault:
            raise NotASound(str(fault)) from None
        with opened as stream:
            blocks = _at_most(longest, stream, stream.sample_rate)
            found = self._classify(blocks, stream.sample_rate)
            cut_short, remark = stream.cut_short, stream.remark
        if found is None:
            raise audio.AudioFault(
                cut_short or f"at least {audio.MIN_SECONDS} s of sound are needed"
            )
        return Prediction(**found, cut_short=cut_short, remark=remark)

    def _classify(self, blocks: Iterable[np.ndarray], rate: int) -> dict[str, Any] | None:
        """The other fields of the prediction for blocks of samples at `rate`."""
        extractor, spans, silent = self._extractor, [], []
        logits: list[np.ndarray] = []
        profiles: list[np.ndarray] = []
        length, hop = extractor.segment_seconds, extractor.hop_seconds
        for start, samples in _passages(blocks, rate, extractor.max_seconds, length, hop):
            wave = audio.resample(samples, rate, extractor.sampling_rate)
            segments = self._segments(wave)
            seconds = len(samples) / rate
            last = max(0.0, seconds - length)
            for number in range(len(segments)):
                begin = min(number * hop, last)
                end = min(begin + length, seconds)
                spans.append((start + begin, start + end))
                silent.append(_is_silent(samples[round(begin * rate) : round(end * rate)]))
            for first in range(0, len(segments), BATCH):
                found, profiled = self._run(segments[first : first + BATCH])
                logits.append(found)
                if profiled is not None:
                    profiles.append(profiled)
        if not spans:
            return None
        each = np.concatenate(logits).astype(np.float64)
        whole = _softmax(each.mean(axis=0))  # as inference.average_segments does
        ranked = sorted(zip(self.labels, whole.tolist()), key=lambda pair: -pair[1])
        sounding = ~np.array(silent)
        unlikeness = None
        if self._reference and sounding.any():
            unlikeness = self._reference.unlikeness(np.concatenate(profiles)[sounding])
        return {
            "probabilities": dict(ranked),
            "seconds": spans[-1][1],
            "spans": np.array(spans),
            "over_time": _softmax(each),
            "silent": ~sounding,
            "unlikeness": unlikeness,
        }


def _is_silent(samples: np.ndarray) -> bool:
    """As fetch_data decides of a clip."""
    return bool(np.ptp(samples) < audio.SILENCE)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis; scipy's, without its 100 MB in the endpoint's container."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def read_labels(folder: Path) -> list[str]:
    """The labels of an exported model, in the order of its logits.

    Raises:
        PipelineError: the folder holds no model, or one without labels.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = config["id2label"]
        return [names[str(index)] for index in range(len(names))]
    except (FileNotFoundError, NotADirectoryError):
        fix = "type `dvc repro`" if folder == EXPORT else "name a folder that `export` wrote"
        raise PipelineError(f"{folder}/ contains no model: {fix}.") from None
    except (json.JSONDecodeError, KeyError) as error:
        raise PipelineError(
            f"{folder}/config.json names no labels ({one_line(error)}): type `dvc repro -f export`."
        ) from None


def _features(folder: Path) -> tuple[Any, Segments]:
    """The settings of the feature extractor, and what cuts a wave into segments of features."""
    if _installed("transformers"):
        from genrepro.encoding.extractor import extract_segments, load_extractor

        extractor = load_extractor(folder)
        return extractor, functools.partial(extract_segments, extractor)
    if not (folder / "classify.py").exists():
        raise PipelineError(
            f"{folder}/ has no classify.py, so its features need transformers: type `make install`."
        )
    from genrepro.export.classify import (
        Classifier as Program,
    )  # not the folder's: it may be foreign

    program = Program(folder)
    del program.session  # takes all cores: _onnx_runtime opens its own
    return SimpleNamespace(**program.audio), lambda wave: [
        program.features(segment) for segment in program.segments(wave)
    ]


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _runtime(folder: Path, threads: int, profile: bool) -> Run:
    graph = folder / "onnx/model.onnx"
    use_onnx = not profile and graph.exists() and _onnx_is_equal(folder)
    if not _installed("torch"):
        if use_onnx:
            return _onnx_runtime(graph, threads)
        raise PipelineError(
            f"{graph} does not exist, or {PARITY} does not say that it agrees with PyTorch, which "
            "is not installed: type `make install`."
        )
    import torch  # imported by transformers' feature extractors anyway

    torch.set_num_threads(threads)
    if use_onnx and not torch.cuda.is_available():
        return _onnx_runtime(graph, threads)
    return _torch_runtime(folder, profile)


def _onnx_is_equal(folder: Path) -> bool:
    """Whether the export stage found ONNX to agree, which is unknown for other folders."""
    if folder.resolve() != EXPORT.resolve():
        return False
    try:
        measured = json.loads(PARITY.read_text(encoding="utf-8"))["onnx"]
        return measured["same_predictions"] == 1 and measured["largest_logit_difference"] < EQUAL
    except (OSError, json.JSONDecodeError, KeyError):
        return False


def _onnx_runtime(graph: Path, threads: int) -> Run:
    from onnxruntime import InferenceSession, SessionOptions  # export.onnx imports the exporter

    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(segments: list[np.ndarray]) -> tuple[np.ndarray, None]:
        inputs = [{name: segment[None].astype(np.float32)} for segment in segments]
        return np.concatenate([session.run(["logits"], each)[0] for each in inputs]), None

    return run


def _torch_runtime(folder: Path, profile: bool) -> Run:
    import torch

    from genrepro.model import backbone
    from genrepro.model.inference import segment_logits

    def run(segments: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        with _explain_out_of_memory():
            if profile:
                return run_segments(model, segments, BATCH)
            return segment_logits(model, segments, BATCH), None

    if profile:
        from tools.embeddings import run_segments

    with _explain_out_of_memory():
        model = backbone.load(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    return run


@contextlib.contextmanager
def _explain_out_of_memory() -> Iterator[None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise PipelineError(
            "the GPU is out of memory: stop other programs that use it, or put "
            "CUDA_VISIBLE_DEVICES= before the same command to run it on the CPU."
        ) from None


def _at_most(seconds: float, blocks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Pass blocks of samples on; a small file can hold days of silence."""
    left = seconds * rate
    for block in blocks:
        left -= len(block)
        if left < 0:
            raise audio.AudioFault(f"lasts more than {seconds / 60:g} minutes")
        yield block


def _passages(
    blocks: Iterable[np.ndarray], rate: int, longest: float, segment: float, hop: float
) -> Iterator[tuple[float, np.ndarray]]:
    """Cut a stream of samples into passages of at most `longest` seconds.

    A file that is longer is cut where segments end, so that each of its segments starts a hop after
    the one before, as if it were one passage. Its last segment is moved back to end with it.

    Yields:
        The start of each passage in seconds, and its samples at `rate`.
    """
    limit, whole, step = (round(seconds * rate) for seconds in (longest, segment, hop))
    segments = 1 + max(0, limit - whole) // step  # in one passage
    advance = segments * step
    covered = advance - step + whole
    start, held = 0, np.zeros(0, np.float32)
    before = held  # what precedes `held`, enough of it to fill a segment
    waiting, count = [], 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        while count > limit + LEAST_REST * whole:
            held = np.concatenate(waiting)
            yield start / rate, held[:covered]
            before, held = held[:advance], held[advance:]
            start += advance
            waiting, count = [held], len(held)
    rest = np.concatenate([held[:0], *waiting])
    if start == 0 and len(rest) >= audio.MIN_SECONDS * rate:
        yield 0.0, rest[:limit]
    elif start and len(rest) - (covered - advance) >= LEAST_REST * whole:
        missing = min(max(0, whole - len(rest)), len(before))
        yield (start - missing) / rate, np.concatenate([before[len(before) - missing :], rest])
