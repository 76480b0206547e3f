"""ONNX: the classifier for runtimes without PyTorch, in float32 and with 8-bit matrix products."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime import InferenceSession, SessionOptions
from torch import nn
from transformers import PreTrainedModel

from genrepro.export import int8
from genrepro.model.crop import FIXED_LENGTH


class _Logits(nn.Module):
    """A classifier whose output is the logits alone, as ONNX wants it."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**{self.model.main_input_name: inputs}).logits


def export(model: PreTrainedModel, example: np.ndarray, path: Path) -> None:
    """Write `model` as ONNX with one input, named as transformers names it, and output `logits`.

    Args:
        example: features of one segment, (samples,) or (frames, bins) or (bins, frames). The batch
            is free; so is the length, unless the backbone has a fixed number of positions.
    """
    batch = torch.from_numpy(np.stack([example, example]).astype(np.float32))
    free = {0: torch.export.Dim.DYNAMIC}
    if model.config.model_type not in FIXED_LENGTH:
        free[1] = torch.export.Dim.DYNAMIC
    with _plain_attention(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about PyTorch's own internals, nothing to act on
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            _Logits(model).eval(),
            (batch,),
            path,
            input_names=[model.main_input_name],
            output_names=["logits"],
            dynamic_shapes=(free,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    onnx.save(_without_traces(onnx.load(path)), path)


@contextlib.contextmanager
def _plain_attention(model: PreTrainedModel) -> Iterator[None]:
    """PyTorch's fused attention is exported with a search for NaN, which a clip never has."""
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's stack traces: they hold paths of the machine that exported."""
    del model.metadata_props[:]
    for node in [*model.graph.node, *(node for each in model.functions for node in each.node)]:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        del value.metadata_props[:]
    for weights in model.graph.initializer:
        del weights.metadata_props[:]
    del model.graph.metadata_props[:]
    return model


def quantize(source: Path, target: Path) -> None:
    """Write a copy whose matrix products, and convolutions that can be such, are in 8 bits.

    The head's last product stays in float32, as do other convolutions: they gain no time.
    """
    model = onnx.load(source)
    int8.quantize(model.graph)
    onnx.save(model, target)


def session(path: Path, threads: int = 0) -> InferenceSession:
    """Open an ONNX file on the CPU; `threads` 0 means all cores."""
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])


def logits(opened: InferenceSession, batch: np.ndarray) -> np.ndarray:
    """Classify a batch of features of equal shape: (batch, …) to (batch, labels), float32."""
    name = opened.get_inputs()[0].name
    return opened.run(["logits"], {name: batch.astype(np.float32)})[0]
