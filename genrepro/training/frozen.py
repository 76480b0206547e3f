"""The outputs of a model's frozen layers, computed once instead of in every epoch.

Cached is what comes before all trainable parameters: the convolutions of a HuBERT, wav2vec2 or
WavLM under `train.freeze=convolutions`, everything but the head under `backbone`. Each segment is
processed unpadded and in evaluation mode, as in the test.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, groupby
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from genrepro.core import distributed
from genrepro.core.files import atomic_output
from genrepro.core.params import Train
from genrepro.core.stage import log
from genrepro.encoding.parts import Part
from genrepro.encoding.store import Encoded, Row, write_index, write_shard
from genrepro.model import allocator, device
from genrepro.model.backbone import HEAD
from genrepro.model.inference import stacked
from genrepro.training.data import Segments


@contextlib.contextmanager
def cached_outputs(
    model: PreTrainedModel, encoded: Encoded, parts: dict[str, Part], train: Train, folder: Path
) -> Iterator[dict[str, Segments]]:
    """Let `model` take the outputs of its frozen layers as its input, until the block ends.

    Args:
        model: a CachedOutputs takes the place of its frozen layers within the block.
        parts: the splits whose segments will be asked for.
        train: decides on which device, in which precision and how many segments at once.
        folder: where the outputs are kept, as an encoded corpus; if it exists, it is read.

    Yields:
        The segments of each split: outputs of the frozen layers, or, of a model without any or
        whose outputs are to vary, what was encoded.
    """
    name = frozen_layers(model)
    if name is not None and _vary(train, is_body=name in dict(model.named_children())):
        log("train.augment, spec_augment or dropout: frozen layers are computed in every epoch")
        name = None
    if name is None:
        yield {split: Segments(encoded, part) for split, part in parts.items()}
        return
    layers = model.get_submodule(name)
    rows = sorted({row for part in parts.values() for row in part.rows})
    with distributed.rank_0_first("frozen"):
        if not folder.is_dir():
            log(f"computing the outputs of the frozen {type(layers).__name__} once")
            with device.explain_out_of_memory(device.less_memory(train)):
                _write(layers, encoded, rows, train, folder)
    outputs, place = Encoded.open(folder), {row: number for number, row in enumerate(rows)}
    model.set_submodule(name, CachedOutputs(is_body=name in dict(model.named_children())))
    try:
        yield {
            split: Segments(
                outputs,
                replace(part, rows=[place[row] for row in part.rows]),
                lengths=[len(encoded[row]) for row in part.rows],
            )
            for split, part in parts.items()
        }
    finally:
        model.set_submodule(name, layers)


class CachedOutputs(nn.Module):
    """Takes the place of frozen layers in a model whose input is their outputs."""

    def __init__(self, is_body: bool) -> None:
        super().__init__()
        self.is_body = is_body

    def forward(self, outputs: torch.Tensor, *args, **kwargs):
        if not self.is_body:
            return outputs
        return BaseModelOutputWithPooling(last_hidden_state=outputs, pooler_output=outputs)


def frozen_layers(model: PreTrainedModel) -> str | None:
    """The name of the largest frozen module before all trainable parameters, if there is one."""
    name, body = next(
        (name, child) for name, child in model.named_children() if not name.startswith(HEAD)
    )
    mixes_layers = getattr(model.config, "use_weighted_layer_sum", False)
    if not _is_trainable(body) and not mixes_layers:  # the outputs of all layers take much space
        return name
    convolutions = getattr(body, "feature_extractor", None)
    if convolutions is None or _is_trainable(convolutions):
        return None
    return f"{name}.feature_extractor"


def _vary(train: Train, is_body: bool) -> bool:
    """Whether the frozen layers' outputs differ from epoch to epoch.

    SpecAugment and dropout act after the convolutions.
    """
    return bool(train.augment or (is_body and (train.spec_augment or train.dropout)))


def _is_trainable(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _write(
    layers: nn.Module, encoded: Encoded, rows: list[int], train: Train, folder: Path
) -> None:
    outputs = _outputs(layers, encoded, rows, train)
    first = next(outputs)
    with atomic_output(folder) as draft:
        draft.mkdir()
        shard = draft / "data-00000-of-00001.arrow"
        write_shard(shard, chain([first], outputs), encoded.input_name, first[2].ndim)
        write_index(draft, [shard])


@torch.inference_mode()
def _outputs(layers: nn.Module, encoded: Encoded, rows: list[int], train: Train) -> Iterator[Row]:
    was_training, where = layers.training, device.choose_device(train)
    layers.eval().to(where)
    hook = allocator.release_between_shapes(layers)
    for _, group in groupby(rows, key=lambda row: encoded[row].shape):
        alike = list(group)
        for start in range(0, len(alike), train.batch_size):
            batch = alike[start : start + train.batch_size]
            inputs = stacked([encoded[row] for row in batch], _dtype(layers)).to(where)
            with device.autocast(train):
                outputs = _used(layers(inputs))
            for row, output in zip(batch, outputs.half().cpu().numpy()):
                yield encoded.clip[row], encoded.segment[row], output
    hook.remove()
    layers.train(was_training).cpu()
    if where == "cuda":  # the memory reported at the end is that of training
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _dtype(layers: nn.Module) -> torch.dtype:
    return next(layers.parameters()).dtype


def _used(outputs: torch.Tensor | BaseModelOutputWithPooling) -> torch.Tensor:
    """What the next module reads of the outputs; AST's head reads the pooled ones."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    pooled = getattr(outputs, "pooler_output", None)
    return outputs.last_hidden_state if pooled is None else pooled
