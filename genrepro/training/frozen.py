"""What the frozen front of a model gives, computed once instead of in every epoch.

The front is what comes before all that learns: the convolutions of a HuBERT, wav2vec2 or WavLM
under `train.freeze=convolutions`, everything but the head under `backbone`. It hears each segment
alone, unpadded and in evaluation mode, as it will in the test.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
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
from genrepro.model.backbone import HEAD
from genrepro.model.device import choose_device, explain_out_of_memory
from genrepro.model.inference import stacked
from genrepro.training.data import Segments


@contextlib.contextmanager
def cached_outputs(
    model: PreTrainedModel, encoded: Encoded, parts: dict[str, Part], train: Train, folder: Path
) -> Iterator[dict[str, Segments]]:
    """Let `model` take its front's outputs as its input, until the block ends.

    Args:
        model: its weights and their names stay as they are.
        parts: the segments that will be asked for.
        train: says on which device to compute, and how many segments at once.
        folder: where the outputs lie, as an encoded corpus; if it is there, it is read again.

    Yields:
        Each part's segments: outputs of the front, or, where a model has none, what was encoded.
    """
    found = front(model)
    if found is None:
        yield {name: Segments(encoded, part) for name, part in parts.items()}
        return
    rows = sorted({row for part in parts.values() for row in part.rows})
    with distributed.rank_0_first("front"):
        if not folder.is_dir():
            log(f"computing what {type(found).__name__}, which is frozen, gives: once")
            with explain_out_of_memory(train):
                _write(found, encoded, rows, train, folder)
    outputs, place = Encoded.open(folder), {row: number for number, row in enumerate(rows)}
    found.forward = _answer_of(found, model)
    try:
        yield {
            name: Segments(
                outputs,
                replace(part, rows=[place[row] for row in part.rows]),
                lengths=[len(encoded[row]) for row in part.rows],
            )
            for name, part in parts.items()
        }
    finally:
        del found.forward  # the class's own shows again


def front(model: PreTrainedModel) -> nn.Module | None:
    """The largest frozen module that stands before all that learns, if there is one."""
    body = next(child for name, child in model.named_children() if not name.startswith(HEAD))
    mixes_layers = getattr(model.config, "use_weighted_layer_sum", False)
    if not _learns(body) and not mixes_layers:  # the outputs of all layers would be too much
        return body
    convolutions = getattr(model.base_model, "feature_extractor", None)
    return None if convolutions is None or _learns(convolutions) else convolutions


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _answer_of(found: nn.Module, model: PreTrainedModel) -> Callable:
    if found is getattr(model.base_model, "feature_extractor", None):
        return lambda outputs, *_, **__: outputs
    return lambda outputs, *_, **__: BaseModelOutputWithPooling(
        last_hidden_state=outputs, pooler_output=outputs
    )


def _write(found: nn.Module, encoded: Encoded, rows: list[int], train: Train, folder: Path) -> None:
    given = _outputs(found, encoded, rows, train)
    first = next(given)
    with atomic_output(folder) as draft:
        draft.mkdir()
        shard = draft / "data-00000-of-00001.arrow"
        write_shard(shard, chain([first], given), encoded.input_name, first[2].ndim)
        write_index(draft, [shard])


@torch.inference_mode()
def _outputs(found: nn.Module, encoded: Encoded, rows: list[int], train: Train) -> Iterator[Row]:
    was_training, device = found.training, choose_device(train)
    found.eval().to(device)
    for _, alike in groupby(rows, key=lambda row: encoded[row].shape):
        alike = list(alike)
        for start in range(0, len(alike), train.batch_size):
            batch = alike[start : start + train.batch_size]
            outputs = found(stacked([encoded[row] for row in batch]).to(device))
            for row, output in zip(batch, _used(outputs).half().cpu().numpy()):
                yield encoded.clip[row], encoded.segment[row], output
    found.train(was_training).cpu()


def _used(outputs: torch.Tensor | BaseModelOutputWithPooling) -> torch.Tensor:
    """What the module after the front reads of its outputs: AST's head the pooled ones."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    pooled = getattr(outputs, "pooler_output", None)
    return outputs.last_hidden_state if pooled is None else pooled
