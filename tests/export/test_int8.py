"""8-bit products and convolutions equal the float ones up to rounding."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from genrepro.export.int8 import quantize, rounded


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
def test_it_equals_the_float_convolution_up_to_rounding(width, stride, length, bias):
    model = convolution((24, 32, width), bias, strides=[stride])
    x = np.random.default_rng(1).normal(0.5, 1, (2, 32, length)).astype(np.float32)
    expected = computed(model, x)
    quantize(model.graph)
    assert not [node for node in model.graph.node if node.op_type == "Conv"]
    assert "w" not in [each.name for each in model.graph.initializer]
    got = computed(model, x)
    assert got.shape == expected.shape
    assert 0 < np.abs(got - expected).max() < 0.08 * np.sqrt(32 * width)
    (weights,) = (w for w in model.graph.initializer if w.name == "layer_weight")
    assert 0.9 * 2**15 < largest_sum(numpy_helper.to_array(weights)) < 2**15


@pytest.mark.parametrize("inputs", [1, 2, 7, 96])
def test_the_sum_of_two_neighbouring_products_just_fits_in_16_bits(inputs):
    matrix = np.random.default_rng(0).normal(0, 1, (inputs, 40)).astype(np.float32)
    matrix[:, 0] = 0
    weights, scales = rounded(matrix)
    assert np.abs(weights * scales - matrix).max() <= scales.max() / 2 * (1 + 1e-5)
    assert largest_sum(weights) < 2**15
    assert largest_sum(weights) > 0.9 * 2**15 or inputs == 1


def largest_sum(weights: np.ndarray) -> int:
    """The largest sum of the products of two neighbouring inputs, each from 0 to 255."""
    weights = weights.astype(int)
    first, second = weights[0::2], weights[1::2]
    pairs = np.abs(first[: len(second)] + second).max(initial=0)
    return 255 * max(pairs, np.abs(weights).max())


def test_two_neighbours_of_opposite_signs_use_all_8_bits():
    weights, _ = rounded(np.array([[1.0], [-1.0]], np.float32))
    assert weights.ravel().tolist() == [127, -127]


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
def test_other_convolutions_stay_unchanged(shape, attributes):
    model = convolution(shape, **attributes)
    before = model.SerializeToString()
    quantize(model.graph)
    assert model.SerializeToString() == before
