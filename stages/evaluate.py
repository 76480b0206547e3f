"""evaluate: score the model that validation chose on the test clips, which are used only here."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from genrepro.core.files import atomic_output, write_json
from genrepro.core.params import Evaluate, Params
from genrepro.core.paths import CLIPS, ENCODED, FINETUNED, LABELS, PLOTS, PREDICTIONS, SPLIT, TEST
from genrepro.core.stage import log, record_speed
from genrepro.encoding.parts import Part, is_unequal, read_parts
from genrepro.encoding.store import Encoded
from genrepro.evaluation import scoring
from genrepro.model import allocator, backbone, device
from genrepro.model.inference import average_segments, segment_logits


def main(params: Params) -> None:
    allocator.keep_freed_memory()
    used = device.set_up_inference(params.evaluate)
    with record_speed("evaluate") as figures, device.explain_out_of_memory(device.LESS_MEMORY):
        encoded = Encoded.open(ENCODED)
        parts, labels = read_parts(SPLIT, encoded)
        model = backbone.load(FINETUNED).to(used)
        batch = params.evaluate.batch_size
        logits = {
            part: clip_logits(model, encoded, parts[part], batch) for part in ("validation", "test")
        }
        temperature = scoring.fit_temperature(
            logits["validation"], np.array(parts["validation"].targets)
        )
        clips = described(parts["test"], labels)
        frame = scoring.predictions(clips, logits["test"], labels)
        calibrated = scoring.predictions(clips, logits["test"] / temperature, labels)
        level = params.evaluate.confidence
        result = scoring.score(frame, labels, level)
        result["temperature"] = temperature
        result["calibration_error_after_temperature"] = scoring.calibration_error(calibrated)
        figures["clips"] = len(frame)
        _write(frame, calibrated, result, params.evaluate)
    log(
        scoring.headline(result, level)
        + (f"; macro F1 {result['macro_f1']:.3f}" if is_unequal(parts.values()) else "")
    )
    before, after = result["calibration_error"], result["calibration_error_after_temperature"]
    if after > before:
        log(
            f"the temperature of {temperature:.3f}, fitted on the validation clips, does not help "
            f"on the test clips (calibration error {before:.3f} without it, {after:.3f} with it): "
            "use the probabilities as they are"
        )


def clip_logits(
    model: PreTrainedModel, encoded: Encoded, part: Part, batch_size: int
) -> np.ndarray:
    """(clips, labels) logits of a split, averaged over each clip's segments."""
    segments = [encoded[row] for row in part.rows]
    return average_segments(segment_logits(model, segments, batch_size), np.array(part.clip_of))


def described(part: Part, labels: list[str]) -> pd.DataFrame:
    """One row per clip: clip, path, label, group."""
    with CLIPS.open(encoding="utf-8", newline="") as file:
        facts = {row["clip"]: row for row in csv.DictReader(file)}
    return pd.DataFrame(
        {
            "clip": part.clips,
            "path": [facts[clip]["path"] for clip in part.clips],
            "label": [labels[target] for target in part.targets],
            "group": [facts[clip]["group"] for clip in part.clips],
        }
    )


def _write(frame: pd.DataFrame, calibrated: pd.DataFrame, result: dict, evaluate: Evaluate) -> None:
    level = evaluate.confidence
    reliability = pd.concat(
        pd.DataFrame(scoring.reliability(each, level)).assign(probabilities=name)
        for name, each in (("as trained", frame), ("after temperature", calibrated))
    )
    recall = pd.DataFrame(
        {
            "label": label,
            "recall": figures["recall"],
            **figures["recall_interval"],
            "clips": figures["clips"],
        }
        for label, figures in result["labels"].items()
    )
    with atomic_output(PREDICTIONS) as draft:
        frame.to_csv(draft, index=False, lineterminator="\n")
    with atomic_output(PLOTS) as folder:
        folder.mkdir()
        accuracy = {"accuracy": result["accuracy"], **result["accuracy_interval"]}
        tables = {
            "accuracy": pd.DataFrame([accuracy | {"clips": len(frame), "confidence": level}]),
            "confusion": frame[["label", "predicted"]],
            "reliability": reliability,
            "recall": recall,
            "mistakes": scoring.mistakes(frame, evaluate.mistakes),
        }
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    write_json(LABELS, result.pop("labels"))
    write_json(TEST, result)
