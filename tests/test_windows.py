"""8-bit convolutions: what the float ones give but for rounding, and only where they fit."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from genrepro.windows import quantize_convolutions


def convolution(shape: tuple[int, ...], bias: bool = False, **attributes) -> onnx.ModelProto:
    """A model of one convolution, x to y, with random weights of `shape`."""
    free = ["batch", "channels", *(f"size_{axis}" for axis in range(len(shape) - 2))]
    random = np.random.default_rng(0)
    weights = {"w": random.normal(0, 1, shape)}
    if bias:
        weights["b"] = random.normal(0, 9, shape[0])
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("Conv", ["x", *weights], ["y"], "layer", **attributes)],
            "one layer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, free)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, free)],
            [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )


def computed(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    (y,) = InferenceSession(model.SerializeToString()).run(None, {"x": x})
    return y


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("width", "stride"), [(3, 2), (2, 2), (3, 1), (1, 1), (4, 3)])
@pytest.mark.parametrize("length", [16, 17, 18, 101])
def test_it_is_the_float_convolution_but_for_rounding(width, stride, length, bias):
    model = convolution((24, 32, width), bias, strides=[stride])
    x = np.random.default_rng(1).normal(0.5, 1, (2, 32, length)).astype(np.float32)
    expected = computed(model, x)
    quantize_convolutions(model.graph)
    assert not [node for node in model.graph.node if node.op_type == "Conv"]
    assert "w" not in [each.name for each in model.graph.initializer]
    got = computed(model, x)
    assert got.shape == expected.shape
    assert 0 < np.abs(got - expected).max() < 0.08 * np.sqrt(32 * width)
    (weights,) = (w for w in model.graph.initializer if w.name == "layer_weight")
    assert np.abs(numpy_helper.to_array(weights)).max() == 63  # 16 bits hold 2 * 63 * 255


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((24, 1, 10), {"strides": [5]}),  # the waveform itself
        ((32, 2, 8), {"strides": [1], "group": 16}),
        ((24, 32, 3), {"strides": [1], "pads": [1, 1]}),
        ((24, 32, 3), {"strides": [1], "dilations": [2]}),
        ((24, 32, 3, 3), {"strides": [2, 2]}),
    ],
    ids=["one channel", "groups", "padding", "dilation", "images"],
)
def test_what_does_not_fit_stays_as_it_is(shape, attributes):
    model = convolution(shape, **attributes)
    before = model.SerializeToString()
    quantize_convolutions(model.graph)
    assert model.SerializeToString() == before
