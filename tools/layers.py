"""Choose the backbone's layer for a linear probe, by cross-validation.

Uses the outputs of `dvc repro prepare encode fetch_model` and only the training and validation
clips: each is tested by a probe that was not trained on it (nor on its group, if split.protocol
says so). To choose encode.segment_seconds, run this for each value and compare the losses.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from genrepro.core.errors import PipelineError
from genrepro.core.params import Params, load
from genrepro.core.paths import BACKBONE, CLIPS, ENCODED, FINGERPRINTS, SPLIT
from genrepro.core.stage import run
from genrepro.encoding.extractor import load_extractor
from genrepro.encoding.parts import Part, read_parts
from genrepro.encoding.store import Encoded
from genrepro.evaluation.intervals import wilson
from genrepro.model import backbone
from genrepro.splits import protocols
from genrepro.splits.clips import read_clips
from genrepro.splits.duplicates import near_identical, read_fingerprints
from genrepro.training import frozen, probe

FOLDS = 5
PLAIN = {"weighted_layer_sum": False, "augment": [], "spec_augment": None, "dropout": None}


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tools.layers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    if not (BACKBONE / "config.json").exists():
        raise PipelineError(f"{BACKBONE}/ contains no model: type `dvc repro fetch_model`.")
    params = load()
    encoded = Encoded.open(ENCODED)
    parts, labels = read_parts(SPLIT, encoded)
    pool = joined(parts["train"], parts["validation"])
    folds = inner_folds(params, pool)
    found = {}
    for layer in range(1, layers(BACKBONE) + 1):
        print(f"layer {layer}", flush=True)
        vectors = outputs(layer, encoded, pool, labels, params)
        found[layer] = cross_validated(vectors, pool, folds, params.train.class_weights)
    print(table(found, len(pool.clips), params.evaluate.confidence))


def table(found: dict[int, tuple[float, float]], clips: int, confidence: float) -> str:
    """One line per layer, and the command for the one with the lowest loss.

    Args:
        found: layer -> accuracy and loss.
    """
    lines = [f"{'layer':>5}  {'accuracy':>8}  {'interval':^14}  {'loss':>6}   ({clips} clips)"]
    for layer, (accuracy, loss) in found.items():
        interval = wilson(round(accuracy * clips), clips, confidence)
        between = f"{interval['low']:.3f} to {interval['high']:.3f}"
        lines.append(f"{layer:5d}  {accuracy:8.3f}  {between}  {loss:6.3f}")
    best = min(found, key=lambda layer: found[layer][1])
    settings = f"-S train.layers={best} -S train.freeze=backbone -S train.probe=true"
    return "\n".join([*lines, f"The lowest loss: dvc exp run {settings}"])


def layers(folder: Path) -> int:
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return config.num_hidden_layers


def joined(one: Part, other: Part) -> Part:
    """Join two splits into one; rows still refer to the encoded corpus."""
    shifted = [len(one.clips) + index for index in other.clip_of]
    return Part(
        one.clips + other.clips,
        one.targets + other.targets,
        one.rows + other.rows,
        one.clip_of + shifted,
    )


def inner_folds(params: Params, pool: Part) -> list[dict[str, str]]:
    """For each fold, clip -> "train", "validation" (which chooses the penalty) or "test".

    Clips with the same recording are in the same split of a fold, and so are clips of one group
    unless split.protocol is stratified.
    """
    names = set(pool.clips)
    clips = [clip for clip in read_clips(CLIPS) if clip.clip in names]
    if params.split.protocol == "stratified":
        clips = [clip._replace(group="") for clip in clips]
    same = []
    if params.split.same_recordings:
        same = [(match.a, match.b) for match in near_identical(*read_fingerprints(FINGERPRINTS))]
    settings: dict[str, Any] = {"validation": params.split.validation, "seed": params.seed}
    settings |= {"folds": FOLDS, "same": same}
    return [protocols.split(clips, "grouped", fold=fold, **settings) for fold in range(FOLDS)]


def outputs(layer: int, encoded: Encoded, pool: Part, labels: list[str], params: Params):
    """(segments, channels): the input of a head on top of the first `layer` layers."""
    settings = {"layers": layer, "freeze": "backbone", "probe": True}
    train = params.train.model_copy(update=settings | PLAIN)
    model, _ = backbone.build(BACKBONE, labels, load_extractor(ENCODED), train, params.seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        frozen.cached_outputs(
            model, encoded, {"all": pool}, train, Path(folder) / "outputs"
        ) as segments,
    ):
        return probe.Head(model).vectors(segments["all"])


def cross_validated(
    vectors, pool: Part, folds: list[dict[str, str]], class_weights: str
) -> tuple[float, float]:
    """Accuracy and loss on held-out clips, each clip once."""
    correct = loss = 0.0
    for fold in folds:
        rows, parts = {}, {}
        for name in ("train", "validation", "test"):
            rows[name], parts[name] = subset(pool, {c for c, part in fold.items() if part == name})
        held = {name: vectors[of] for name, of in rows.items()}
        found = probe.best(probe.probes(held, parts, class_weights))
        correct += found.figures["test"]["accuracy"] * len(parts["test"].clips)
        loss += found.figures["test"]["loss"] * len(parts["test"].clips)
    return correct / len(pool.clips), loss / len(pool.clips)


def subset(pool: Part, clips: set[str]) -> tuple[list[int], Part]:
    """Select some clips of a split, and the rows that belong to them."""
    kept = [index for index, clip in enumerate(pool.clips) if clip in clips]
    place = {index: new for new, index in enumerate(kept)}
    chosen = [row for row, index in enumerate(pool.clip_of) if index in place]
    return chosen, Part(
        [pool.clips[index] for index in kept],
        [pool.targets[index] for index in kept],
        [pool.rows[row] for row in chosen],
        [place[pool.clip_of[row]] for row in chosen],
    )


if __name__ == "__main__":
    run(main)
