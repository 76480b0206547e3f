"""Export the classifier to ONNX, in float32 and in 8 bits, for runtimes without PyTorch."""

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
    """A classifier that returns only its logits: an ONNX graph has tensors as outputs."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**{self.model.main_input_name: inputs}).logits


def export(model: PreTrainedModel, example: np.ndarray, path: Path) -> None:
    """Write `model` as ONNX; its input has the name that transformers uses, its output is `logits`.

    Args:
        example: features of one segment, (samples,) or (frames, bins) or (bins, frames). The batch
            size is dynamic; so is the length, unless the backbone has a fixed number of positions.
    """
    batch = torch.from_numpy(np.stack([example, example]).astype(np.float32))
    free = {0: torch.export.Dim.DYNAMIC}
    if model.config.model_type not in FIXED_LENGTH:
        free[1] = torch.export.Dim.DYNAMIC
    with _plain_attention(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about PyTorch's internals
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
    """Switch to eager attention: the fused one is exported with checks for NaN, which cost time."""
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the exporter's stack traces, which contain paths of this machine."""
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
    """Write a copy with matrix products, and the convolutions that can be one, in 8 bits.

    The head's last product and the other convolutions stay in float32: 8 bits would save no time.
    """
    model = onnx.load(source)
    int8.quantize(model.graph)
    onnx.save(model, target)


def session(path: Path, threads: int = 0) -> InferenceSession:
    """Open an ONNX file on the CPU; 0 threads means all cores."""
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])


def logits(opened: InferenceSession, batch: np.ndarray) -> np.ndarray:
    """Classify a batch of features of equal shape, (batch, …); returns float32 (batch, labels)."""
    name = opened.get_inputs()[0].name
    return opened.run(["logits"], {name: batch.astype(np.float32)})[0]
