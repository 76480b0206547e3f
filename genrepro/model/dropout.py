"""Dropout that drops the same values on every kind of processor, and in less time.

With the same seed, PyTorch drops other values on an Intel processor, where MKL draws them, than on
others, where its own generator does, one by one. Here that generator draws them everywhere, and one
64-bit number decides on four values.
"""

from __future__ import annotations

import torch
from torch import nn

LEVELS = 1 << 16  # a dropout rate is rounded to a multiple of 1 / LEVELS


class Dropout(nn.Dropout):
    """PyTorch's dropout, but for the random numbers on a CPU."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if not self.training or not 0 < self.p < 1 or inputs.device.type != "cpu":
            return super().forward(inputs)
        return inputs * draw_kept(inputs.shape, self.p).to(inputs.dtype).div_(1 - self.p)


def use_portable_dropout(model: nn.Module) -> None:
    """Replace the dropout layers of `model`."""
    for name, layer in list(model.named_modules()):
        if type(layer) is nn.Dropout:
            model.set_submodule(name, Dropout(layer.p, layer.inplace))


def draw_kept(shape: torch.Size, rate: float) -> torch.Tensor:
    """Draw booleans that are false with the probability `rate`."""
    words = torch.empty(-(-shape.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    numbers = words.view(torch.int16)[: shape.numel()].view(shape)
    return numbers >= round(rate * LEVELS) - LEVELS // 2
