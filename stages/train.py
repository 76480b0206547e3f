"""train: fine-tune the backbone on the training clips, or fit a linear probe to it."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path

import torch
from dvclive import Live

from genrepro.core import distributed, paths, processes, reporting, resume
from genrepro.core.files import atomic_output, write_json
from genrepro.core.params import Params
from genrepro.core.stage import log, record_speed
from genrepro.encoding.extractor import load_extractor
from genrepro.encoding.parts import Part, is_unequal, label_counts, read_parts
from genrepro.encoding.store import Encoded
from genrepro.model import allocator, backbone, device
from genrepro.training import fine_tune, frozen, probe
from genrepro.training.callbacks import DIGITS


def main(params: Params) -> None:
    train = params.train
    fine_tune.accumulation_steps(train, processes.world())  # reported before any work
    reporting.tracker()
    device.set_up(train)
    if train.fast_kernels:
        allocator.keep_freed_memory()
    with record_speed("train") as figures:
        corpus = Encoded.open(paths.ENCODED)
        parts, labels = read_parts(paths.SPLIT, corpus)
        extractor = load_extractor(paths.ENCODED)
        model, pretrained = backbone.build(paths.BACKBONE, labels, extractor, train, params.seed)
        rate = train.learning_rate if pretrained else train.scratch_learning_rate
        how = "linear probe" if train.probe else f"learning rate {rate:g}"
        if train.augment:
            how += f", augmented by {', '.join(train.augment)}"
        machine = device.resolved(train)
        ran_on = {name: machine[name] for name in ("device", "precision")}
        log(f"{_plan(model, parts, labels, pretrained, how)}; {_where(**ran_on)}")
        if pretrained and train.freeze != "backbone" and _is_too_high(rate, model.num_parameters()):
            log(
                f"train.learning_rate={rate:g} is high for a pretrained backbone of this size: the "
                "course's is 5e-05; `python -m tools.recipe distilhubert` sets it"
            )
        with distributed.rank_0_first("start"):  # rank 0 has the stage's lock, and cleans up
            checkpoints = resume.folder("train", params, machine)
        used = {part: parts[part] for part in ("train", "validation")}
        cache = checkpoints / "frozen"
        with (
            frozen.cached_outputs(model, corpus, used, train, cache) as segments,
            _curves() as live,
        ):
            if train.probe:
                outcome = probe.fit(model, segments, train.class_weights, live)
            else:
                outcome = fine_tune.fine_tune(
                    model, extractor, segments, train, rate, params.seed, checkpoints, live
                )
            if live is not None:
                _write_curves(outcome, Path(live.dir) / paths.CURVES.name)
        if processes.rank():
            return
        with atomic_output(paths.FINETUNED) as draft:
            model.save_pretrained(draft)
            extractor.save_pretrained(draft)
        write_json(
            paths.VALIDATION,
            {
                "accuracy": round(outcome.accuracy, DIGITS),
                "macro_f1": round(outcome.macro_f1, DIGITS),
                "loss": round(outcome.loss, DIGITS),
                "clips": len(parts["validation"].clips),
                outcome.by: outcome.kept,
            }
            | ran_on,
        )
        resume.discard(checkpoints)
        figures |= {"clips": len(parts["train"].clips)} | ran_on
        if torch.cuda.is_initialized():
            figures["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
    f1 = f", macro F1 {outcome.macro_f1:.3f}" if is_unequal(parts.values()) else ""
    log(f"kept {outcome.by} {outcome.kept:g}: validation accuracy {outcome.accuracy:.3f}{f1}")


@contextlib.contextmanager
def _curves() -> Iterator[Live | None]:
    """DVCLive's folder of learning curves, on rank 0."""
    if processes.rank():
        yield None
        return
    with (
        atomic_output(paths.TRAINING) as draft,
        Live(str(draft), dvcyaml=None, save_dvc_exp=False) as live,
    ):
        yield live


def _write_curves(outcome: fine_tune.Outcome, path: Path) -> None:
    """One row per epoch, or per penalty of a probe, in the same columns: DVC plots both alike."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["by", "value", "training_loss", "validation_loss", "accuracy", "kept"])
        for value, *figures in outcome.curve:
            kept = int(value == outcome.kept)
            rows.writerow([outcome.by, f"{value:g}", *(f"{each:.6g}" for each in figures), kept])


def _is_too_high(rate: float, parameters: int) -> bool:
    """Whether a learning rate suited to small models is used for a large one."""
    return rate > 2e-4 and parameters > 10_000_000


def _where(device: object, precision: object) -> str:
    return f"on {device}" if precision == "none" else f"{precision} on {device}"


def _plan(model, parts: dict[str, Part], labels: list[str], pretrained: bool, how: str) -> str:
    sizes = ", ".join(f"{len(part.clips)} {name}" for name, part in parts.items())
    start = "pretrained" if pretrained else "from scratch"
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return (
        f"{model.config.model_type}, {millions:.2f} M parameters, {start}, {how}; "
        f"{len(labels)} labels{_extremes(parts['train'], labels)}; clips: {sizes}"
    )


def _extremes(part: Part, labels: list[str]) -> str:
    """The smallest and the largest label, if they differ."""
    (largest, most), *_, (smallest, least) = label_counts([part]).most_common()
    if least == most:
        return ""
    return f" of {least} ({labels[smallest]}) to {most} ({labels[largest]}) training clips"
