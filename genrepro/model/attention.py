"""Attention with dropout on a CPU, a few heads at a time.

With dropout PyTorch's fused attention falls back, on a CPU, to one that holds several matrices of
all scores (query × key, for each head), and draws its random numbers one by one. Here a few heads'
scores are in the processor's cache at once, they are computed again for the gradients as in
FlashAttention (Dao et al. 2022, https://arxiv.org/abs/2205.14135), and one random number of 64 bits
decides on four weights. Dropout draws other numbers than PyTorch's own, from the same generator.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "dropout_in_pieces"
PIECE = 1 << 22  # scores at once: 16 MB
ELSEWHERE = ("cache", "is_causal", "position_bias", "softcap")  # not of audio encoders
LEVELS = 1 << 16  # a dropout rate is rounded to a multiple of 1 / LEVELS

Place = tuple[int, slice]  # which heads of which sequence


def use_blockwise_dropout(model: PreTrainedModel) -> None:
    """Let a model that uses PyTorch's fused attention use `attention` instead."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: object,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' "sdpa" does, which also takes all that is not dropout on a CPU.

    Args:
        query, key, value: (batch, heads, positions, channels).
        attention_mask: (batch, 1 or heads, queries, keys), true where a key may be attended to.

    Returns:
        (batch, positions, heads, channels), and None for the weights.
    """
    if not _fits(module, query, key, attention_mask, dropout, others):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **others
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    hidden = None if attention_mask is None else ~attention_mask
    attended = _Attention.apply(query, key, value, hidden, dropout, scaling)
    return attended.transpose(1, 2), None


def _fits(module, query, key, mask, dropout: float, others: dict[str, object]) -> bool:
    plain = not getattr(module, "is_causal", True) and query.shape[1] == key.shape[1]
    allows = mask is None or mask.dtype is torch.bool
    asked = any(others.get(name) is not None for name in ELSEWHERE)
    return plain and allows and not asked and 0 < dropout < 1 and query.device.type == "cpu"


class _Attention(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx, query, key, value, hidden, dropout, scaling):
        output, kept = query.new_empty(*query.shape[:3], value.shape[3]), []
        for at in _pieces(query, key):
            weights = _weights(query, key, hidden, scaling, at)
            kept.append(_drawn(weights.shape, dropout))
            output[at] = weights.mul_(kept[-1]) @ value[at]
        output /= 1 - dropout
        ctx.save_for_backward(query, key, value, hidden, output, *kept)
        ctx.dropout, ctx.scaling = dropout, scaling
        return output

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx, given):
        query, key, value, hidden, output, *drawn = ctx.saved_tensors
        gradients = [torch.empty_like(each) for each in (query, key, value)]
        of_query, of_key, of_value = gradients
        # What softmax's gradient takes from each score of a row, without the row's weights.
        shared = (given * output).sum(-1, keepdim=True)
        given = given / (1 - ctx.dropout)
        for at, kept in zip(_pieces(query, key), drawn):
            weights = _weights(query, key, hidden, ctx.scaling, at)
            kept = kept.to(weights.dtype)  # once for both products
            of_scores = (given[at] @ value[at].mT).mul_(kept).sub_(shared[at]).mul_(weights)
            of_value[at] = weights.mul_(kept).mT @ given[at]
            of_query[at] = (of_scores @ key[at]).mul_(ctx.scaling)
            of_key[at] = (of_scores.mT @ query[at]).mul_(ctx.scaling)
        return *gradients, None, None, None


def _pieces(query: torch.Tensor, key: torch.Tensor) -> Iterator[Place]:
    batch, heads = query.shape[:2]
    some = max(1, PIECE // (query.shape[2] * key.shape[2]))
    for sequence in range(batch):
        for first in range(0, heads, some):
            yield sequence, slice(first, first + some)


def _weights(query, key, hidden, scaling: float, at: Place) -> torch.Tensor:
    """(heads, queries, keys), before dropout."""
    scores = (query[at] * scaling) @ key[at].mT
    if hidden is not None:
        hidden = hidden.expand(*query.shape[:2], *hidden.shape[2:])
        scores.masked_fill_(hidden[at], -torch.inf)
    return scores.softmax(-1)


def _drawn(shape: torch.Size, dropout: float) -> torch.Tensor:
    """Booleans, false with the probability `dropout`."""
    words = torch.empty(-(-shape.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    parts = words.view(torch.int16)[: shape.numel()].view(shape)
    return parts >= round(dropout * LEVELS) - LEVELS // 2
