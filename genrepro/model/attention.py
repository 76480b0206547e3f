"""Attention with dropout on a CPU, a few heads at a time.

With dropout, PyTorch's fused attention falls back on a CPU to an implementation that keeps several
full score matrices (query × key, for each head) and draws its random numbers one by one. Here only
a few heads' scores are in the processor's cache at a time, they are recomputed for the gradients as
in FlashAttention (Dao et al. 2022, https://arxiv.org/abs/2205.14135), and dropout is that of
genrepro.model.dropout.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from genrepro.model.dropout import draw_kept

NAME = "blockwise_dropout"
BLOCK = 1 << 22  # scores at once: 16 MB
UNSUPPORTED = ("cache", "is_causal", "position_bias", "softcap")  # not used by audio encoders

Block = tuple[int, slice]  # some heads of one sequence


def use_blockwise_dropout(model: PreTrainedModel) -> None:
    """Replace PyTorch's fused attention by `attention` in a model that uses it."""
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
    """Compute what transformers' "sdpa" does, and leave all but dropout on a CPU to it.

    Args:
        query, key, value: (batch, heads, positions, channels).
        attention_mask: (batch, 1 or heads, queries, keys), true where a key may be attended to.

    Returns:
        (batch, positions, heads, channels), and None in place of the attention weights.
    """
    if not _supports(module, query, key, attention_mask, dropout, others):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **others
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    hidden = None if attention_mask is None else ~attention_mask
    attended = _Attention.apply(query, key, value, hidden, dropout, scaling)
    return attended.transpose(1, 2), None


def _supports(module, query, key, mask, dropout: float, others: dict[str, object]) -> bool:
    plain = not getattr(module, "is_causal", True) and query.shape[1] == key.shape[1]
    boolean = mask is None or mask.dtype is torch.bool  # else it is added to the scores
    unsupported = any(others.get(name) is not None for name in UNSUPPORTED)
    return plain and boolean and not unsupported and 0 < dropout < 1 and query.device.type == "cpu"


class _Attention(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx, query, key, value, hidden, dropout, scaling):
        output, kept = query.new_empty(*query.shape[:3], value.shape[3]), []
        for block in _blocks(query, key):
            weights = _weights(query, key, hidden, scaling, block)
            kept.append(draw_kept(weights.shape, dropout))
            output[block] = weights.mul_(kept[-1]) @ value[block]
        output /= 1 - dropout
        ctx.save_for_backward(query, key, value, hidden, output, *kept)
        ctx.dropout, ctx.scaling = dropout, scaling
        return output

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx, gradient):
        query, key, value, hidden, output, *drawn = ctx.saved_tensors
        gradients = [torch.empty_like(each) for each in (query, key, value)]
        of_query, of_key, of_value = gradients
        # The term that softmax's gradient subtracts from all scores of a row.
        row_term = (gradient * output).sum(-1, keepdim=True)
        gradient = gradient / (1 - ctx.dropout)
        for block, kept in zip(_blocks(query, key), drawn):
            weights = _weights(query, key, hidden, ctx.scaling, block)
            kept = kept.to(weights.dtype)  # once for both products
            of_scores = (gradient[block] @ value[block].mT).mul_(kept)
            of_scores.sub_(row_term[block]).mul_(weights)
            of_value[block] = weights.mul_(kept).mT @ gradient[block]
            of_query[block] = (of_scores @ key[block]).mul_(ctx.scaling)
            of_key[block] = (of_scores.mT @ query[block]).mul_(ctx.scaling)
        return *gradients, None, None, None


def _blocks(query: torch.Tensor, key: torch.Tensor) -> Iterator[Block]:
    batch, heads = query.shape[:2]
    together = max(1, BLOCK // (query.shape[2] * key.shape[2]))
    for sequence in range(batch):
        for first in range(0, heads, together):
            yield sequence, slice(first, first + together)


def _weights(query, key, hidden, scaling: float, block: Block) -> torch.Tensor:
    """Attention weights before dropout: (heads, queries, keys)."""
    scores = (query[block] * scaling) @ key[block].mT
    if hidden is not None:
        hidden = hidden.expand(*query.shape[:2], *hidden.shape[2:])
        scores.masked_fill_(hidden[block], -torch.inf)
    return scores.softmax(-1)
