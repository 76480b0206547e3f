"""8-bit convolutions over time, in the form in which ONNX Runtime computes them fast.

Its 8-bit convolution takes longer than the float one, its 8-bit matrix product a quarter of the
time. A convolution is one: what each output hears, laid side by side, times the kernel. The samples
become 8-bit numbers before they are laid side by side, so that few bytes are copied.
"""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

FEWEST_CHANNELS = 16  # of one, the waveform itself, the product is narrow and the loss large
LARGEST = 63  # processors without VNNI add two products in 16 bits: those of 127 would overflow
_END = np.iinfo(np.int64).max


def quantize_convolutions(graph: GraphProto) -> None:
    """Replace, in place, convolutions over time by 8-bit matrix products.

    Only those of many channels, without groups, padding or dilation: the encoders of HuBERT,
    wav2vec2 and WavLM but for their first layer. Weights are rounded for each output channel,
    samples for the whole input, when it is known.
    """
    weights = {each.name: each for each in graph.initializer}
    nodes, constants = [], []
    for node in graph.node:
        if _fits(node, weights):
            kernel = numpy_helper.to_array(weights[node.input[1]])
            stride = _attributes(node)["strides"][0]
            made, needed = _product(node, kernel, stride)
            nodes += made
            constants += needed
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    constants += [each for each in weights.values() if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _attributes(node: NodeProto) -> dict[str, object]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _fits(node: NodeProto, weights: dict[str, TensorProto]) -> bool:
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


def _product(
    node: NodeProto, kernel: np.ndarray, stride: int
) -> tuple[list[NodeProto], list[TensorProto]]:
    """The nodes and constants that stand for one convolution.

    Args:
        kernel: (out, in, width) float32.
    """
    out, _, width = kernel.shape
    name = node.name or node.output[0]
    matrix = kernel.transpose(2, 1, 0).reshape(-1, out)
    scale = np.maximum(np.abs(matrix).max(axis=0), np.finfo(np.float32).tiny) / LARGEST
    constants = {
        "weight": np.round(matrix / scale).astype(np.int8),
        "weight_scale": scale.astype(np.float32),
        "weight_zero": np.zeros(out, np.int8),
        "stride": np.array([stride]),
        "axis": np.array([1]),
    }
    nodes = []

    def own(*names: str) -> list[str]:
        return [f"{name}_{each}" for each in names]

    def add(kind: str, inputs: list[str], outputs: list[str], **attributes: object) -> None:
        label = f"{name}_{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, outputs, label, **attributes))

    add("Transpose", [node.input[0]], own("rows"), perm=[0, 2, 1])
    add("DynamicQuantizeLinear", own("rows"), own("bytes", "scale", "zero"))
    for at in range(width):
        constants[f"start_{at}"] = np.array([at])
        constants[f"end_{at}"] = np.array([at + 1 - width or _END])  # so all are of one length
        bounds = own(f"start_{at}", f"end_{at}", "axis", "stride")
        add("Slice", [*own("bytes"), *bounds], own(f"part_{at}"))
    add("Concat", own(*(f"part_{at}" for at in range(width))), own("windows"), axis=2)
    add("MatMulInteger", own("windows", "weight", "zero", "weight_zero"), own("sums"))
    add("Cast", own("sums"), own("floats"), to=TensorProto.FLOAT)
    add("Mul", own("scale", "weight_scale"), own("both_scales"))
    add("Mul", own("floats", "both_scales"), own("outputs"))
    if len(node.input) > 2 and node.input[2]:
        add("Add", [*own("outputs"), node.input[2]], own("biased"))
    add("Transpose", [nodes[-1].output[0]], [node.output[0]], perm=[0, 2, 1])
    return nodes, [numpy_helper.from_array(v, f"{name}_{key}") for key, v in constants.items()]
