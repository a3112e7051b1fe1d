"""Causal attention for CPUs in half precision: some query rows at a time against the keys that they may see.

torch's own fused kernel is slower there for the short sequences of small models (its backward pass above all). This one
is made of batched matrix products, and leaves out most of the scores that the causal mask hides. Probabilities are
computed again in the backward pass, so memory grows with the length, not with its square. Scores, softmax and the
scores' gradients are float32, as in torch's kernel: rounded to bfloat16 they made gradients two to eight times less
exact, and a training run visibly worse.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "blocked_cpu"
ROWS = 128


@lru_cache(maxsize=4)
def strip(length: int, slopes: tuple[float, ...] = ()) -> Tensor:
    """The additive mask, float32 [heads or 1, ROWS, width]; `_window` cuts that of every block of rows from it.

    Column c is the key `c - (width - ROWS)` places after the block's first row. `slopes`, one for each head, add ALiBi
    as slope times distance. Kept for the next call.
    """
    with torch.inference_mode(False):  # a later backward pass may use it
        width = -(-length // ROWS) * ROWS
        distance = torch.arange(width) - (width - ROWS) - torch.arange(ROWS)[:, None]
        bias = torch.tensor(slopes or (0.0,))[:, None, None] * distance
        return torch.where(distance > 0, torch.finfo(torch.float32).min, bias)


def fits(query: Tensor, key: Tensor, dropout: float) -> bool:
    """Whether `causal_attention` is for these: on a CPU, half precision (by autocast or not), no cache, no dropout."""
    if query.device.type != "cpu" or dropout or query.shape[2] != key.shape[2]:
        return False
    return _dtype(query) in (torch.bfloat16, torch.float16)


def causal_attention(query: Tensor, key: Tensor, value: Tensor, scale: float, slopes: tuple[float, ...] = ()) -> Tensor:
    """Causal softmax attention of [batch, heads, length, width] each, with ALiBi where `slopes` are given.

    Scores, softmax and sums inside are float32; products with the values, and of the gradients, half precision.
    """
    mask, dtype = strip(query.shape[2], slopes), _dtype(query)
    flat = (one.to(dtype).reshape(-1, *one.shape[2:]).contiguous() for one in (query, key, value))
    return _Blocked.apply(*flat, mask, scale).view(query.shape)


def _dtype(tensor: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else tensor.dtype


class _Blocked(torch.autograd.Function):
    """Attention over contiguous [batch · heads, length, width]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
        """One block of rows after the other."""
        ctx.save_for_backward(query, key, value)
        ctx.mask, ctx.scale = mask, scale
        output, exact = torch.empty_like(query), key.float()
        with torch.autocast("cpu", enabled=False):
            for rows, seen in _blocks(query.shape[1]):
                weights = _weights(query, exact, mask, scale, rows)
                output[:, rows] = torch.bmm(weights.to(value.dtype), value[:, seen])
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """The same blocks; sums over them are float32, in which no small part gets lost."""
        query, key, value = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_query = torch.empty_like(query)
        grad_key, grad_value = (torch.zeros_like(one, dtype=torch.float32) for one in (key, value))
        exact_key, exact_value = key.float(), value.float()
        with torch.autocast("cpu", enabled=False):
            for rows, seen in _blocks(query.shape[1]):
                weights = _weights(query, exact_key, ctx.mask, ctx.scale, rows)
                grad_value[:, seen] += torch.bmm(weights.to(grad.dtype).transpose(1, 2), grad[:, rows])
                scores = torch.bmm(grad[:, rows].float(), exact_value[:, seen].transpose(1, 2))
                scores = torch._softmax_backward_data(scores, weights, -1, weights.dtype).to(key.dtype)
                grad_query[:, rows] = torch.bmm(scores, key[:, seen])
                grad_key[:, seen] += torch.bmm(scores.transpose(1, 2), query[:, rows])
        grad_query, grad_key = grad_query.mul_(ctx.scale), grad_key.mul_(ctx.scale)
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None, None


def _blocks(length: int) -> list[tuple[slice, slice]]:
    """(rows, keys that they see), in order."""
    stops = [min(start + ROWS, length) for start in range(0, length, ROWS)]
    return [(slice(index * ROWS, stop), slice(0, stop)) for index, stop in enumerate(stops)]


def _weights(query: Tensor, key: Tensor, mask: Tensor, scale: float, rows: slice) -> Tensor:
    """The probabilities of some rows, float32 [batch · heads, rows, keys up to the last row]; `key` is float32."""
    part = _window(mask, rows.start, rows.stop)
    if part.shape[0] > 1:
        part = part.repeat(query.shape[0] // part.shape[0], 1, 1)
    return torch.baddbmm(part, query[:, rows].float(), key[:, : rows.stop].transpose(1, 2), alpha=scale).softmax(-1)


def _window(mask: Tensor, start: int, stop: int) -> Tensor:
    """The part of `strip` for rows start … stop (at most ROWS of them) and keys 0 … stop."""
    first = mask.shape[-1] - ROWS - start
    return mask[:, : stop - start, first : first + stop]


def _forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: the blocks where they fit, scaled_dot_product_attention for all else."""
    plain = attention_mask is None and getattr(module, "is_causal", True) and more.get("is_causal", True) is not False
    special = any(more.get(name) is not None for name in ("softcap", "position_bias", "cache", "s_aux"))
    same_widths = query.shape[-1] == value.shape[-1]
    if not plain or special or not same_widths or not fits(query, key, dropout):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output = causal_attention(query, repeat_kv(key, groups), repeat_kv(value, groups), scale)
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
