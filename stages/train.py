"""train: fine-tune the backbone on the training part, or find a linear head for it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch
from dvclive import Live

from genrepro import (
    backbone,
    encoded,
    features,
    frozen,
    gpus,
    probe,
    ranks,
    resume,
    together,
    training,
)
from genrepro.params import load
from genrepro.runtime import measured, run, say, sha256, staged, write_json

BACKBONE = Path("models/backbone")
ENCODED = Path("data/encoded")
SPLIT = Path("data/split.csv")
FINETUNED = Path("models/finetuned")
CURVES = Path("metrics/train")
VALIDATION = Path("metrics/validation.json")
CODE = sorted(
    module.__file__ for name, module in sys.modules.items() if name.startswith("genrepro.")
)


def main() -> None:
    params = load()
    training.accumulation_steps(params.train, ranks.world())  # impossible: said before any work
    gpus.claim_one(params.train.device)
    with measured("train") as figures:
        corpus = encoded.Encoded.open(ENCODED)
        parts, labels = encoded.read_parts(SPLIT, corpus)
        extractor = features.load(ENCODED)
        model, pretrained = backbone.build(BACKBONE, labels, extractor, params.train, params.seed)
        rate = params.train.learning_rate if pretrained else params.train.scratch_learning_rate
        how = "linear probe" if params.train.probe else f"learning rate {rate:g}"
        say(_plan(model, parts, labels, pretrained, how))
        with together.rank_0_first("start"):  # which has the stage's lock, and clears up
            checkpoints = _checkpoints(params, corpus)
        heard = {part: parts[part] for part in ("train", "validation")}
        front = checkpoints / "front"
        with (
            frozen.recalled(model, corpus, heard, params.train, front) as segments,
            _curves() as live,
        ):
            if params.train.probe:
                outcome = probe.fit(model, segments, live)
            else:
                outcome = training.fine_tune(
                    model, segments, params.train, rate, params.seed, checkpoints, live
                )
        if ranks.rank():
            return
        with staged(FINETUNED) as draft:
            model.save_pretrained(draft)
            extractor.save_pretrained(draft)
        write_json(
            VALIDATION,
            {
                "accuracy": outcome.accuracy,
                "loss": outcome.loss,
                "clips": len(parts["validation"].clips),
                outcome.by: outcome.kept,
            },
        )
        resume.discard(checkpoints)
        figures["clips"] = len(parts["train"].clips)
        if torch.cuda.is_initialized():
            figures["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
    say(f"kept {outcome.by} {outcome.kept:g}: validation accuracy {outcome.accuracy:.3f}")


def _curves() -> contextlib.AbstractContextManager[Live | None]:
    if ranks.rank():
        return contextlib.nullcontext()
    return Live(str(CURVES), dvcyaml=None, save_dvc_exp=False)


def _plan(model, parts, labels, pretrained: bool, how: str) -> str:
    sizes = ", ".join(f"{len(part.clips)} {name}" for name, part in parts.items())
    start = "pretrained" if pretrained else "from scratch"
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return (
        f"{model.config.model_type}, {millions:.2f} M parameters, {start}, "
        f"{how}; {len(labels)} labels; clips: {sizes}"
    )


def _checkpoints(params, corpus: encoded.Encoded) -> Path:
    """Where this very training's checkpoints are; other inputs, parameters or code find others."""
    weights = [*sorted(BACKBONE.glob("*.safetensors")), BACKBONE / "config.json", SPLIT]
    return resume.folder(
        "train",
        {
            "train": params.train.model_dump(),
            "processes": ranks.world(),
            "seed": params.seed,
            "encoded": corpus.digest,
            "files": {path.name: sha256(path) for path in weights},
        },
        [__file__, *CODE],
        ["accelerate", "numpy", "safetensors", "torch", "transformers"],
    )


if __name__ == "__main__":
    run(together.one_voice(main))
