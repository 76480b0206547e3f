"""The convolutional encoder of HuBERT and wav2vec2 as matrix products, for half precision on a GPU.

cuDNN's one-dimensional convolutions change the layout of their input and output each time, and the
group norm after the first one reads and writes the model's longest tensor in float32. Here frames
stay in rows, (batch, frames, channels), so that a convolution is one or two matrix products on
views of them. Group norm after the first convolution becomes part of its weights: the mean and the
variance of a linear function of the waveform follow from the waveform's own (see `_folded`). For
the gradients, the outputs of GELU and of the first convolution are computed again, not kept.

DistilHuBERT, 8 clips of 30 s in bf16 on an H100: docs/performance.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

WIDTH = 16  # columns of a matrix product with the waveform: what a GPU multiplies at once
CHUNK = 1024  # frames


def use_matrix_products(model: nn.Module) -> None:
    """Let the encoder of `model`, if it is one of these, be computed by `encode` on a GPU."""
    encoder = getattr(getattr(model, "base_model", None), "feature_extractor", None)
    if encoder is not None and _fits(encoder):
        encoder.forward = functools.partial(_forward, encoder, encoder.forward)


def _fits(encoder: nn.Module) -> bool:
    """Whether it is group norm after the first convolution, GELU after each, and no biases."""
    layers = list(getattr(encoder, "conv_layers", []))
    norms = [getattr(layer, "layer_norm", None) for layer in layers]
    return (
        len(layers) > 1
        and isinstance(norms[0], nn.GroupNorm)
        and norms[0].num_groups == norms[0].num_channels
        and not any(norms[1:])
        and all(layer.conv.bias is None for layer in layers)
        and all(layer.conv.kernel_size[0] <= 2 * layer.conv.stride[0] for layer in layers)
        and all(type(layer.activation).__name__ == "GELUActivation" for layer in layers)
    )


def _forward(
    encoder: nn.Module, usual: Callable[[torch.Tensor], torch.Tensor], waves: torch.Tensor
) -> torch.Tensor:
    if waves.device.type != "cuda" or not torch.is_autocast_enabled("cuda"):
        return usual(waves)  # in float32 cuDNN is faster
    return encode(encoder, waves).transpose(1, 2)


def encode(encoder: nn.Module, waves: torch.Tensor) -> torch.Tensor:
    """The encoder's output, except for rounding.

    Args:
        waves: (batch, samples), float32 or half precision.

    Returns:
        (batch, frames, channels), in the precision of autocast, else in float32.
    """
    device = waves.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    first, *others = encoder.conv_layers
    with torch.autocast(device, enabled=False):
        frames, weight = _folded(first, waves.float())
        kernels = [layer.conv.weight.permute(2, 1, 0).to(dtype) for layer in others]
        strides = [layer.conv.stride[0] for layer in others]
        hidden = _First.apply(frames.to(dtype), weight.to(dtype), kernels[0], strides[0])
        for kernel, stride in zip(kernels[1:], strides[1:], strict=True):
            hidden = _Next.apply(hidden, kernel, stride)
        return functional.gelu(hidden)


def _folded(layer: nn.Module, waves: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first convolution and its group norm as one matrix for each clip.

    Group norm with a channel per group subtracts the mean of w · x over all frames x of a clip and
    divides by the standard deviation. These are w · mean(x) and √(wᵀ Cov(x) w).

    Returns:
        Frames with a 1 behind their samples and zeros up to WIDTH, (batch, frames, WIDTH), and
        matrices, (batch, WIDTH, channels), float32.
    """
    conv, norm = layer.conv, layer.layer_norm
    taps = conv.kernel_size[0]
    frames = waves.unfold(1, taps, conv.stride[0])
    mean = frames.mean(dim=1)  # batch, taps
    centred = frames - mean[:, None]
    covariance = _sums_of_products(centred, centred) / frames.shape[1]
    kernel = conv.weight.float().squeeze(1)  # channels, taps
    variance = ((kernel @ covariance) * kernel).sum(-1)  # batch, channels
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    scaled = scale[:, :, None] * kernel
    shift = norm.bias - (scaled @ mean[:, :, None]).squeeze(-1)
    matrix = torch.cat([scaled, shift[:, :, None]], dim=2)
    ones = frames.new_ones(()).expand(*frames.shape[:2], 1)
    more = -(taps + 1) % WIDTH
    widened = functional.pad(torch.cat([frames, ones], dim=2), (0, more))
    return widened, functional.pad(matrix, (0, more)).mT


class _First(torch.autograd.Function):
    """The first two convolutions: a matrix for each clip, GELU, and a convolution.

    Of the first only the matrix needs gradients. Its output is the longest tensor of all, and is
    computed again for them.
    """

    @staticmethod
    def forward(ctx, frames, weight, kernel, stride):
        ctx.save_for_backward(frames, weight, kernel)
        ctx.stride = stride
        return _convolve_gelu(frames @ weight, kernel, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx, given):
        frames, weight, kernel = ctx.saved_tensors
        of_hidden, of_kernel = _gradients(frames @ weight, kernel, ctx.stride, given)
        return None, _sums_of_products(frames, of_hidden), of_kernel, None


class _Next(torch.autograd.Function):
    """A convolution of the GELU of its input, which is what is kept."""

    @staticmethod
    def forward(ctx, hidden, kernel, stride):
        ctx.save_for_backward(hidden, kernel)
        ctx.stride = stride
        return _convolve_gelu(hidden, kernel, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx, given):
        hidden, kernel = ctx.saved_tensors
        return *_gradients(hidden, kernel, ctx.stride, given), None


def _convolve_gelu(hidden: torch.Tensor, kernel: torch.Tensor, stride: int) -> torch.Tensor:
    """(batch, frames, channels) and (taps, channels, outputs) to (batch, frames, outputs)."""
    active = functional.gelu(hidden)
    count = (hidden.shape[1] - len(kernel)) // stride + 1
    first, *others = _taps(len(kernel), stride)
    result = torch.bmm(_rows(active, first, stride, count), _matrix(kernel, first, active))
    for taps in others:
        result.baddbmm_(_rows(active, taps, stride, count), _matrix(kernel, taps, active))
    return result


def _gradients(
    hidden: torch.Tensor, kernel: torch.Tensor, stride: int, given: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `_convolve_gelu` with respect to `hidden` and `kernel`."""
    active, count, divided = functional.gelu(hidden), given.shape[1], _taps(len(kernel), stride)
    of_kernel = torch.empty_like(kernel)
    for taps in divided:
        of_clips = torch.bmm(_rows(active, taps, stride, count).mT, given)
        of_kernel[taps] = of_clips.sum(0, dtype=torch.float32).view_as(kernel[taps])
    of_hidden = active.zero_()  # in the same memory
    for taps in divided:
        _rows(of_hidden, taps, stride, count).baddbmm_(given, _matrix(kernel, taps, given).mT)
    torch.ops.aten.gelu_backward.grad_input(of_hidden, hidden, grad_input=of_hidden)
    return of_hidden, of_kernel


def _taps(taps: int, stride: int) -> list[slice]:
    """The taps, so divided that rows of frames under each division do not overlap."""
    return [slice(start, min(start + stride, taps)) for start in range(0, taps, stride)]


def _rows(active: torch.Tensor, taps: slice, stride: int, count: int) -> torch.Tensor:
    """A view: for each output the frames under some of its taps, side by side in a row."""
    batch, frames, channels = active.shape
    width = (taps.stop - taps.start) * channels
    return active.as_strided(
        (batch, count, width),
        (frames * channels, stride * channels, 1),
        active.storage_offset() + taps.start * channels,
    )


def _matrix(kernel: torch.Tensor, taps: slice, batch: torch.Tensor) -> torch.Tensor:
    """The kernel at some taps as a matrix for each clip: (batch, taps × channels, outputs)."""
    return kernel[taps].flatten(0, 1).expand(len(batch), -1, -1)


def _sums_of_products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """aᵀ b of each clip, (batch, frames, m) and (batch, frames, n) to (batch, m, n), float32.

    In chunks of frames: a product of few rows and columns would occupy a small part of a GPU.
    """
    whole = a.shape[1] // CHUNK * CHUNK
    sums = []
    for one, other in zip(a, b, strict=True):
        chunks = [each[:whole].unflatten(0, (whole // CHUNK, CHUNK)) for each in (one, other)]
        parts = chunks[0].mT @ chunks[1]
        rest = one[whole:].mT @ other[whole:]
        sums.append(parts.sum(0, dtype=torch.float32) + rest.float())
    return torch.stack(sums)
