"""Convert matrix products and convolutions of an ONNX graph to 8 bits, so that they run faster.

ONNX Runtime's 8-bit matrix product takes a quarter of the float one's time, but its 8-bit
convolution takes longer than the float one. So a convolution is computed as a matrix product: the
window of each output, as a row, times the kernel. The input is quantised before the windows are
copied, so that fewer bytes are copied.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

FEWEST_CHANNELS = 16  # with one (the raw waveform) the product is narrow and the error large
LARGEST = 127  # of a weight, or of two neighbours of the same sign together: see `rounded`
_END = np.iinfo(np.int64).max


def quantize(graph: GraphProto) -> None:
    """Replace, in place, the nodes that are faster in 8 bits.

    These are products with a constant matrix, and convolutions over time with many channels and
    without groups, padding or dilation: all but the first layer of the convolutional encoders of
    HuBERT, wav2vec2 and WavLM. Inputs are quantised at run time, with one scale per batch.
    """
    weights = {each.name: each for each in graph.initializer}
    nodes, constants = [], []
    known: dict[str, tuple[str, str, str]] = {}
    for node in graph.node:
        if _is_convolution(node, weights):
            made = _convolution(node, numpy_helper.to_array(weights[node.input[1]]))
        elif _is_product(node, weights):
            made = _product(node, numpy_helper.to_array(weights[node.input[1]]), known)
        else:
            nodes.append(node)
            continue
        made.nodes[-1].output[:] = node.output
        nodes += made.nodes
        constants += made.constants
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    constants += [each for each in weights.values() if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def rounded(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round a product's weights to 8 bits, with a scale per output, without overflow anywhere.

    x86 processors without VNNI add the products of two neighbouring inputs in signed 16 bits, which
    hold at most 255 × 128: two neighbouring weights of the same sign must share that range.

    Args:
        matrix: (inputs, outputs) float32.

    Returns:
        Weights, int8 (inputs, outputs), and scales, float32 (outputs,): their product is `matrix`
        up to rounding.
    """
    first, second = matrix[0::2], matrix[1::2]
    first = first[: len(second)]
    pairs = np.abs(first + second) * (first * second > 0)
    largest = np.maximum(np.abs(matrix).max(axis=0), pairs.max(axis=0, initial=0))
    scale = (np.maximum(largest, np.finfo(np.float32).tiny) / LARGEST).astype(np.float32)
    return np.round(matrix / scale).astype(np.int8), scale


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _is_product(node: NodeProto, weights: dict[str, TensorProto]) -> bool:
    matrix = weights.get(node.input[1]) if node.op_type == "MatMul" else None
    return matrix is not None and len(matrix.dims) == 2


def _is_convolution(node: NodeProto, weights: dict[str, TensorProto]) -> bool:
    if node.op_type != "Conv" or node.input[1] not in weights:
        return False
    shape, found = weights[node.input[1]].dims, _attributes(node)
    plain = (
        found.get("group", 1) == 1
        and not any(found.get("pads", ()))
        and set(found.get("dilations", (1,))) == {1}
        and found.get("auto_pad", b"NOTSET") == b"NOTSET"
    )
    return plain and len(shape) == 3 and shape[1] >= FEWEST_CHANNELS and "strides" in found


class _Replacement:
    """The nodes and constants that replace one node, named after it."""

    def __init__(self, node: NodeProto) -> None:
        self.name = node.name or node.output[0]
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, key: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(value, f"{self.name}_{key}"))
        return self.constants[-1].name

    def add(self, kind: str, inputs: list[str], outputs: int = 1, **attributes: object):
        """Add a node; return the name of its output, or a list of names if there are several."""
        label = f"{self.name}_{len(self.nodes)}_{kind}"
        names = [f"{label}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, label, **attributes))
        return names[0] if outputs == 1 else names

    def multiply(self, rows: str, scale: str, zero: str, matrix: np.ndarray) -> str:
        """Add 8-bit `rows` times `matrix`, as float; ONNX Runtime fuses these nodes into one."""
        rounded_matrix, scale_of_outputs = rounded(matrix)
        weight = self.constant("weight", rounded_matrix)
        scales = self.constant("weight_scale", scale_of_outputs)
        zeros = self.constant("weight_zero", np.zeros(matrix.shape[1], np.int8))
        sums = self.add("MatMulInteger", [rows, weight, zero, zeros])
        floats = self.add("Cast", [sums], to=TensorProto.FLOAT)
        return self.add("Mul", [floats, self.add("Mul", [scale, scales])])


def _product(
    node: NodeProto, matrix: np.ndarray, known: dict[str, tuple[str, str, str]]
) -> _Replacement:
    """Replace a product.

    Args:
        known: rows, scale and zero point of each input that is quantised already; updated.
    """
    made, given = _Replacement(node), node.input[0]
    if given not in known:
        known[given] = made.add("DynamicQuantizeLinear", [given], 3)
    rows, scale, zero = known[given]
    made.multiply(rows, scale, zero, matrix)
    return made


def _convolution(node: NodeProto, kernel: np.ndarray) -> _Replacement:
    """Replace a convolution over time.

    Args:
        kernel: (outputs, channels, width) float32.
    """
    outputs, _, width = kernel.shape
    made = _Replacement(node)
    transposed = made.add("Transpose", [node.input[0]], perm=[0, 2, 1])
    rows, scale, zero = made.add("DynamicQuantizeLinear", [transposed], 3)
    axis = made.constant("axis", np.array([1]))
    stride = made.constant("stride", np.array([_attributes(node)["strides"][0]]))
    parts = []
    for at in range(width):
        start = made.constant(f"start_{at}", np.array([at]))
        end = made.constant(f"end_{at}", np.array([at + 1 - width or _END]))  # of equal lengths
        parts.append(made.add("Slice", [rows, start, end, axis, stride]))
    windows = made.add("Concat", parts, axis=2)
    matrix = kernel.transpose(2, 1, 0).reshape(-1, outputs)
    result = made.multiply(windows, scale, zero, matrix)
    if len(node.input) > 2 and node.input[2]:
        result = made.add("Add", [result, node.input[2]])
    made.add("Transpose", [result], perm=[0, 2, 1])
    return made
