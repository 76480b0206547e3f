"""export: write a folder for `pipeline("audio-classification")`, with its model card and ONNX."""

from __future__ import annotations

import csv
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from genrepro.core import paths
from genrepro.core.files import atomic_output, write_json, write_text
from genrepro.core.params import Params
from genrepro.core.stage import log, record_speed
from genrepro.encoding.extractor import load_extractor
from genrepro.encoding.parts import read_parts
from genrepro.encoding.store import Encoded
from genrepro.export import card, onnx, program
from genrepro.model import allocator, backbone, device
from genrepro.model.inference import segment_logits

COMPARED_SEGMENTS = 64
REPEATS = 5


def main(params: Params) -> None:
    allocator.keep_freed_memory()
    used = device.set_up_inference(params.evaluate)
    with record_speed("export") as figures, device.explain_out_of_memory(device.LESS_MEMORY):
        model, extractor = backbone.load(paths.FINETUNED).float(), load_extractor(paths.FINETUNED)
        segments = _test_segments()
        with atomic_output(paths.EXPORT) as draft:
            model.save_pretrained(draft)
            extractor.save_pretrained(draft)
            variants = {}
            if params.export.onnx:
                variants = _write_onnx(model, segments[0], draft, params.export.int8)
                program.write(extractor, draft)
            write_text(draft / "README.md", card.text(params, read_facts()))
            expected = segment_logits(model.to(used), segments, batch_size=1)
            parity = _parity(expected, variants, segments)
            model.cpu()
            figures["real_time_factor"] = _real_time_factors(
                model, variants, segments[0], extractor.segment_seconds
            )
        write_json(paths.PARITY, parity)
    log(f"exported to {paths.EXPORT}/: load it with transformers' pipeline, or publish it")


def read_facts() -> card.Facts:
    """Read what the pipeline recorded about this model, for its card."""
    return card.Facts(
        data=_read(paths.DATA),
        split=_read(paths.AUDIT),
        validation=_read(paths.VALIDATION),
        test=_read(paths.TEST),
        labels=_read(paths.LABELS),
        source=_read(paths.SOURCE),
        extractor=_read(paths.FINETUNED / "preprocessor_config.json"),
        curves=_curves(),
    )


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _curves() -> list[dict[str, float]]:
    """What was tried: value (the epoch or penalty), training_loss, validation_loss, accuracy."""
    with paths.CURVES.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: float(row[key]) for key in row if key != "by"} for row in rows]


def _test_segments() -> list[np.ndarray]:
    """Real input to compare the exported models on: the first segments of the test clips."""
    encoded = Encoded.open(paths.ENCODED)
    parts, _ = read_parts(paths.SPLIT, encoded)
    return [encoded[row] for row in parts["test"].rows[:COMPARED_SEGMENTS]]


def _write_onnx(
    model: PreTrainedModel, example: np.ndarray, folder: Path, int8: bool
) -> dict[str, onnx.InferenceSession]:
    """Write onnx/model.onnx and, if asked, onnx/model_int8.onnx; return sessions of them."""
    (folder / "onnx").mkdir()
    files = {"onnx": folder / "onnx/model.onnx"}
    onnx.export(model, example, files["onnx"])
    if int8:
        files["onnx_int8"] = folder / "onnx/model_int8.onnx"
        onnx.quantize(files["onnx"], files["onnx_int8"])
    return {name: onnx.session(path) for name, path in files.items()}


def _parity(
    expected: np.ndarray,
    variants: dict[str, onnx.InferenceSession],
    segments: list[np.ndarray],
) -> dict[str, object]:
    """Compare each variant's logits and predictions with PyTorch's, on real segments."""
    report: dict[str, object] = {"segments": len(segments)}
    for name, session in variants.items():
        got = np.concatenate([onnx.logits(session, segment[None]) for segment in segments])
        same = (got.argmax(axis=1) == expected.argmax(axis=1)).mean()
        report[name] = {
            "largest_logit_difference": float(f"{np.abs(got - expected).max():.1e}"),
            "same_predictions": round(float(same), 4),
        }
    return report


def _real_time_factors(
    model: PreTrainedModel,
    variants: dict[str, onnx.InferenceSession],
    segment: np.ndarray,
    seconds: float,
) -> dict[str, float]:
    """Median seconds of computation per second of audio: all cores, one segment at a time."""

    def median(classify: Callable[[], object]) -> float:
        taken = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            classify()
            taken.append(time.perf_counter() - start)
        return round(float(np.median(taken)) / seconds, 5)

    factors = {"torch": median(lambda: segment_logits(model, [segment], 1))}
    for name, session in variants.items():
        factors[name] = median(functools.partial(onnx.logits, session, segment[None]))
    return factors
