"""export: a folder that `pipeline("audio-classification")` loads, its model card, and ONNX."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from genrepro import backbone, card, features, onnx
from genrepro.encoded import Encoded, read_parts
from genrepro.params import load
from genrepro.predict import segment_logits
from genrepro.runtime import measured, run, say, staged, write_json, write_text

ENCODED = Path("data/encoded")
SPLIT = Path("data/split.csv")
FINETUNED = Path("models/finetuned")
EXPORT = Path("export")
PARITY = Path("metrics/export.json")
COMPARED_SEGMENTS = 64
REPEATS = 5


def main() -> None:
    params = load()
    with measured("export") as figures:
        model, extractor = backbone.load(FINETUNED), features.load(FINETUNED)
        segments = _test_segments()
        with staged(EXPORT) as draft:
            model.save_pretrained(draft)
            extractor.save_pretrained(draft)
            variants = {}
            if params.export.onnx:
                variants = _write_onnx(model, segments[0], draft, params.export.int8)
            write_text(draft / "README.md", card.text(params))
            parity = _parity(model, variants, segments)
            figures["real_time_factor"] = _real_time_factors(
                model, variants, segments[0], extractor.segment_seconds
            )
        write_json(PARITY, parity)
    say(f"exported to {EXPORT}/: load it with transformers' pipeline, or publish it")


def _test_segments() -> list[np.ndarray]:
    """Real input to hold the exported models against: the first segments of the test part."""
    encoded = Encoded.open(ENCODED)
    parts, _ = read_parts(SPLIT, encoded)
    return [encoded[row] for row in parts["test"].rows[:COMPARED_SEGMENTS]]


def _write_onnx(
    model: PreTrainedModel, example: np.ndarray, folder: Path, int8: bool
) -> dict[str, onnx.InferenceSession]:
    """Write onnx/model.onnx and, if asked, onnx/model_int8.onnx; return them opened."""
    (folder / "onnx").mkdir()
    paths = {"onnx": folder / "onnx/model.onnx"}
    onnx.export(model, example, paths["onnx"])
    if int8:
        paths["onnx_int8"] = folder / "onnx/model_int8.onnx"
        onnx.quantize(paths["onnx"], paths["onnx_int8"])
    return {name: onnx.session(path) for name, path in paths.items()}


def _parity(
    model: PreTrainedModel,
    variants: dict[str, onnx.InferenceSession],
    segments: list[np.ndarray],
) -> dict[str, object]:
    """How far each variant's logits and verdicts are from PyTorch's, on real segments."""
    expected = segment_logits(model, segments, batch_size=1)
    report: dict[str, object] = {"segments": len(segments)}
    for name, session in variants.items():
        got = np.concatenate([onnx.logits(session, segment[None]) for segment in segments])
        same = (got.argmax(axis=1) == expected.argmax(axis=1)).mean()
        report[name] = {
            "largest_logit_difference": float(f"{np.abs(got - expected).max():.1e}"),
            "same_verdicts": round(float(same), 4),
        }
    return report


def _real_time_factors(
    model: PreTrainedModel,
    variants: dict[str, onnx.InferenceSession],
    segment: np.ndarray,
    seconds: float,
) -> dict[str, float]:
    """Seconds of computing a second of audio, all cores, one segment at a time; the median."""

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


if __name__ == "__main__":
    run(main)
