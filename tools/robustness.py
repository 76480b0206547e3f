"""Measure what MP3, noise, gain, a shift or a room cost the exported model on the test clips.

Each degraded copy of the test clips is compared with the clean ones, paired by clip. The results go
to metrics/robustness.json, which `tools.pictures` draws and `tools.publish` puts on the model card.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from genrepro import audio
from genrepro.core.errors import PipelineError
from genrepro.core.files import write_json
from genrepro.core.params import Evaluate, load
from genrepro.core.paths import EXPORT, PREDICTIONS, ROBUSTNESS
from genrepro.core.stage import log, run
from genrepro.encoding.extractor import extract_segments, load_extractor
from genrepro.evaluation.intervals import Interval
from genrepro.evaluation.scoring import predictions, score
from genrepro.model import backbone, device
from genrepro.model.inference import average_segments, segment_logits
from tools import results
from tools.classifier import read_labels
from tools.compare import compare
from tools.degradations import DEGRADATIONS, Degradation

CLEAN = "clean"
FACTS = ["clip", "path", "label", "group"]
SAME = 1e-4  # of a probability: what rounding on another processor may change
HEAD = ("test clips", "accuracy", "interval", "points", "interval", "lost", "gained")
WIDTHS = (24, 8, 14, 6, 14, 4, 6)


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tools.robustness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    evaluate = load().evaluate
    used = device.set_up_inference(evaluate)
    with device.explain_out_of_memory(device.LESS_MEMORY):
        found = measure(evaluate, used)
    write_json(ROBUSTNESS, found)
    if worse := [name for name, each in found["degraded"].items() if each["worse"]]:
        log(f"clearly worse than on the clean clips: {'; '.join(worse)}")
    log(f"written to {ROBUSTNESS}")


def measure(evaluate: Evaluate, used: str) -> dict:
    """Evaluate the exported model on every degradation, and print a line for each.

    Args:
        used: the device, as from device.set_up_inference().

    Returns:
        The content of metrics/robustness.json: `of`, the files that it was measured on with their
        hashes; clips, units (groups, or clips without one) and confidence; the accuracy and its
        interval on `clean` clips; and for each kind of `degraded` clips also the difference to the
        clean ones with its interval and p (as tools.compare), the number of clips lost and gained,
        and whether the model is clearly `worse` on them.

    Raises:
        PipelineError: there is no exported model, a test clip is missing, or the clean clips do not
            give the predictions of the evaluate stage.
    """
    tested = results.predictions()
    of = results.measured_on()
    classifier = _Classifier(tested, evaluate, used)
    clean = classifier.predictions()
    check(clean, tested)
    level = evaluate.confidence
    figures = score(clean, classifier.labels, level)
    found: dict[str, Any] = {
        "of": of,
        "clips": figures["clips"],
        "units": figures["units"],
        "confidence": level,
        "clean": _accuracy(figures),
        "degraded": {},
    }
    log(f"{len(clean)} test clips; points of difference from clean; {level:.0%} intervals")
    log(_line(HEAD))
    log(_line(cells(CLEAN, found["clean"])))
    for name, degrade in DEGRADATIONS.items():
        degraded = classifier.predictions(degrade)
        found["degraded"][name] = _compared(clean, degraded, classifier.labels, level)
        log(_line(cells(name, found["degraded"][name])))
    return found


class _Classifier:
    """The exported model and the test clips, each decoded once.

    It computes as the evaluate stage does: the same segments in the same batches.
    """

    def __init__(self, tested: pd.DataFrame, evaluate: Evaluate, used: str) -> None:
        self.labels = read_labels(EXPORT)
        self._extractor = load_extractor(EXPORT)
        self._model = backbone.load(EXPORT).to(used)
        self._batch_size = evaluate.batch_size
        self._facts = tested[FACTS]
        longest = self._extractor.max_seconds
        self._sounds = [_read(Path(path), longest) for path in self._facts["path"]]

    def predictions(self, degrade: Degradation | None = None) -> pd.DataFrame:
        """As data/predictions.csv, of degraded copies if a degradation is given."""
        with threadpool_limits(1):  # as in the encode stage: the same order of sums
            clips = [self._segments(at, degrade) for at in range(len(self._sounds))]
        segments = [segment for clip in clips for segment in clip]
        clip_of = np.repeat(np.arange(len(clips)), [len(clip) for clip in clips])
        each = segment_logits(self._model, segments, self._batch_size)
        logits = average_segments(each, clip_of)
        return predictions(self._facts, logits, self.labels)

    def _segments(self, at: int, degrade: Degradation | None) -> list[np.ndarray]:
        """Features of one clip, as in data/encoded; it is degraded at its own sampling rate."""
        samples, rate = self._sounds[at]
        if degrade is not None:
            name = self._facts["clip"].iloc[at]
            samples = degrade(samples, rate, np.random.default_rng(zlib.crc32(name.encode())))
        wave = audio.resample(samples, rate, self._extractor.sampling_rate)
        return extract_segments(self._extractor, wave)


def check(clean: pd.DataFrame, tested: pd.DataFrame) -> None:
    """Refuse a model that does not predict as the evaluate stage did.

    Args:
        clean: predictions for the clean clips.
        tested: data/predictions.csv.

    Raises:
        PipelineError: the labels differ, or a prediction does, or a probability by more than SAME.
    """
    differ = pd.Series(True, tested.index)
    if list(clean) == list(tested):
        columns = [name for name in tested if name.startswith("p_")]
        moved = (clean[columns] - tested[columns]).abs().max(axis=1)
        differ = (moved > SAME) | (clean["predicted"] != tested["predicted"])
    if differ.any():
        raise PipelineError(
            f"{EXPORT}/ does not give the predictions of {PREDICTIONS}, for {differ.sum()} of "
            f"{len(tested)} clips, such as {tested['clip'][differ].iloc[0]}: the two come from "
            "different runs or processors. Type `dvc repro -f evaluate export`."
        )


def section(found: dict) -> str:
    """The results as a section of the model card.

    Args:
        found: as from measure().
    """
    table = [cells(CLEAN, found["clean"])]
    table += [cells(name, each) for name, each in found["degraded"].items()]
    rows: list[Sequence[str]] = [HEAD, ["---"] * len(HEAD), *table]
    return (
        "## Robustness\n\nThe same test clips, degraded in one way at a time: genrepro's "
        "docs/protocol.md says how. Points are the\ndifference in accuracy from the clean clips, "
        f"paired by clip. Intervals are at the {found['confidence']:.0%} level.\n\n"
        + "".join(f"| {' | '.join(row)} |\n" for row in rows)
    )


def cells(name: str, each: dict) -> list[str]:
    """A row of the table: the words of HEAD."""
    first = [name, f"{each['accuracy']:.3f}", _between(each["interval"], "{:.3f}")]
    if "difference" not in each:
        return [*first, "", "", "", ""]
    sides = each["difference_interval"].items()
    points = {side: None if value is None else 100 * value for side, value in sides}
    return [
        *first,
        f"{100 * each['difference']:+.1f}",
        _between(points, "{:+.1f}"),
        str(each["lost"]),
        str(each["gained"]),
    ]


def _between(interval: Interval, form: str) -> str:
    low, high = interval["low"], interval["high"]
    return "–" if low is None or high is None else f"{form.format(low)} to {form.format(high)}"


def _line(words: Sequence[str]) -> str:
    first, *rest = zip(words, WIDTHS)
    line = f"{first[0]:<{first[1]}}" + "".join(f"  {word:>{width}}" for word, width in rest)
    return line.rstrip()


def _accuracy(figures: dict) -> dict[str, Any]:
    return {
        "accuracy": figures["accuracy"],
        "interval": figures["accuracy_by_group_interval"],
    }


def _compared(
    clean: pd.DataFrame, degraded: pd.DataFrame, labels: list[str], level: float
) -> dict[str, Any]:
    against = compare([clean], [degraded], confidence=level)
    return _accuracy(score(degraded, labels, level)) | {
        "difference": against["difference"],
        "difference_interval": against["interval"],
        "p": against["p"],
        "lost": against["clips_a_better"],
        "gained": against["clips_b_better"],
        "worse": against["better"] == "a",
    }


def _read(path: Path, longest: float) -> tuple[np.ndarray, int]:
    try:
        return audio.read(path, longest)
    except (FileNotFoundError, audio.AudioFault) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
        raise PipelineError(f"{path} {reason}: type `dvc repro -f fetch_data`.") from None


if __name__ == "__main__":
    run(main)
