"""The fastest exact attention that a model family has: flash, scaled_dot_product_attention, or BLOOM's own, fused.

transformers computes BLOOM eagerly only: scores [batch, heads, length, length] are held, and in bfloat16 its ALiBi
numbers (slope times absolute position) are rounded by up to several units. `fuse_bloom` gives it fused attention.

ALiBi becomes part of the dot product. Each query gets six columns with its head's slope, each key six with its
position, so that their product adds slope · position to the score: what ALiBi is, as softmax does not see a constant
that all keys of a query share. Slope and position are split into parts that a half precision holds exactly, and their
products are summed in float32 within the kernel. So the plain causal flash kernel computes it, with no bias in memory.
"""

from __future__ import annotations

import copy
import math
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.models.bloom.modeling_bloom import BloomAttention, dropout_add
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from clp_transfer.errors import UserError
from clp_transfer.train import blocked

HALF = ("bf16", "bf16_pure", "fp16")


def _kept(function: Any) -> Any:
    """Keep the last results. torch.compile puts the function itself into its graph."""
    cached = lru_cache(maxsize=4)(function)

    @wraps(function)
    def call(*given: Any) -> Any:
        return function(*given) if torch.compiler.is_compiling() else cached(*given)

    return call


def choose(model_or_config: Any, wanted: str, *, precision: str = "bf16", document_mask: bool = False) -> str:
    """The attention implementation to load a causal language model (or its config) with.

    `auto`: flash attention where a GPU and its package are there and `precision` is a half one; else torch's
    scaled_dot_product_attention (on a CPU in half precision: `blocked`); eager where the family has nothing else.
    flash attention takes no `document_mask`. Raises UserError for one that cannot be had here.
    """
    family = _family(model_or_config)
    flash = {
        "flash_attention_3": is_flash_attn_3_available() and _capability() == 9,
        "flash_attention_2": is_flash_attn_2_available() and _capability() >= 8,
    }
    flash_fits = family._supports_flash_attn and precision in HALF and not document_mask
    if wanted == "auto":
        ready = [name for name, there in flash.items() if there and flash_fits]
        if ready or not family._supports_sdpa:
            return ready[0] if ready else "eager"
        return blocked.NAME if precision in HALF and not torch.cuda.is_available() else "sdpa"
    if wanted in flash and not (flash[wanted] and flash_fits):
        raise UserError(
            f"train.attention={wanted} cannot be had here with {family.__name__}, precision {precision}, "
            f"document_mask {str(document_mask).lower()}",
            "it needs a GPU of its kind, its package, half precision, no document_mask; or use train.attention=auto",
        )
    if wanted == "sdpa" and _is_bloom(model_or_config):
        return "eager"  # `fuse_bloom` then puts the other in its place
    if (wanted == "sdpa" and not family._supports_sdpa) or (
        wanted == "flex_attention" and not family._supports_flex_attn
    ):
        raise UserError(f"{family.__name__} has no {wanted} attention", "choose train.attention=auto")
    return wanted


def prepare(model: Any, wanted: str, *, precision: str = "bf16", document_mask: bool = False) -> str:
    """Give a loaded model the attention that `choose` names, BLOOM its fused one; returns what it has now.

    For BLOOM `auto` and `sdpa` are the kinds `auto` and `bias` of `fuse_bloom`. Raises UserError as `choose` does.
    """
    chosen = choose(model, wanted, precision=precision, document_mask=document_mask)
    restore(model)
    if model.config.get_text_config()._attn_implementation != chosen:
        model.set_attn_implementation(chosen)
    kind = {"auto": "auto", "sdpa": "bias"}.get(wanted)
    if kind is not None and fuse_bloom(model, kind):
        return f"alibi_{kind}"
    return chosen


def fuse_bloom(model: Any, kind: str = "auto") -> bool:
    """Give every attention module of this BLOOM (not its class) fused ALiBi attention; False for any other family.

    Equal to transformers' eager attention within rounding, forwards and backwards, with padding, caches and activation
    recomputation; in half precision nearer to the float32 result than eager is. `kind`: `columns` (this module's
    docstring); `bias` (an additive mask [heads, length, length], built once for a length and shared by all layers);
    `auto`: columns, but `blocked` on a CPU in half precision. Also accepts a bool mask [batch, 1, length, length].
    Attention weights, where asked for, are computed eagerly. `restore` undoes it.
    """
    if not _is_bloom(model):
        return False
    attentions: list[Any] = [one for one in model.modules() if isinstance(one, BloomAttention)]
    if any(one.pretraining_tp > 1 and one.slow_but_exact for one in attentions):
        return False
    for one in attentions:
        one.__class__ = FusedBloomAttention
        one.kind = kind
    # No mask in memory where it would be the plain causal one, a bool one otherwise. The body alone has this config:
    # transformers makes no new BLOOM from it.
    model.base_model.config = copy.copy(model.config)
    model.base_model.config._attn_implementation = "sdpa"
    model.base_model.__dict__["build_alibi_tensor"] = _key_positions
    return True


def restore(model: Any) -> None:
    """Undo `fuse_bloom`; nothing on any other model."""
    fused: list[Any] = [one for one in model.modules() if isinstance(one, FusedBloomAttention)]
    for one in fused:
        one.__class__ = BloomAttention
        del one.kind
    if fused:
        model.base_model.config = model.config
        del model.base_model.__dict__["build_alibi_tensor"]


class FusedBloomAttention(BloomAttention):
    """BLOOM's attention without scores in memory. An existing module gets this class, and keeps its weights."""

    kind: str

    def forward(
        self,
        hidden_states: Tensor,
        residual: Tensor,
        alibi: Tensor,
        attention_mask: Tensor | None,
        layer_past: Any = None,
        use_cache: bool = False,
        output_attentions: bool = False,
        **more: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """As the parent's. `alibi` is used where it is the keys' positions, int64 [batch or 1, keys]; see there."""
        positions = None if alibi.is_floating_point() else alibi
        if output_attentions:
            eager = self._eager(alibi, positions, attention_mask, hidden_states)
            return super().forward(hidden_states, residual, *eager, layer_past, use_cache, output_attentions, **more)
        query, key, value = self._reshape(self.query_key_value(hidden_states))
        if layer_past is not None:
            key, value = layer_past.update(key, value, self.layer_idx)
        context = self._attend(query, key, value, attention_mask, positions)
        output = self.dense(context.transpose(1, 2).flatten(2))
        return dropout_add(output, residual, self.hidden_dropout, self.training), None

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, positions: Tensor | None
    ) -> Tensor:
        """The context [batch, heads, queries, width]; a mask of None is the causal one."""
        rows, scale = query.shape[2], self.inv_norm_factor
        if mask is None and 1 < rows < key.shape[2]:  # a static cache that is filled for the first time
            key, value = key[:, :, :rows], value[:, :, :rows]
        dropout = self.attention_dropout.p if self.training else 0.0
        whole = mask is None and rows == key.shape[2] > 1
        if whole and self.kind == "auto" and blocked.fits(query, key, dropout):
            return blocked.causal_attention(query, key, value, scale, slopes(self.num_heads))
        if whole and self.kind == "bias":
            bias = _bias(slopes(self.num_heads), rows, query.dtype, query.device)
            return functional.scaled_dot_product_attention(query, key, value, bias, dropout, scale=scale)
        # A multiple of 8, as fast kernels want it; the added columns of the values are zeros and cut off again.
        spare = 6 + (-6 - self.head_dim) % 8
        of_queries = _slope_columns(slopes(self.num_heads), scale, spare, query.dtype, query.device)
        if positions is None:
            of_keys = _plain_columns(key.shape[2], spare, key.dtype, key.device)
        else:
            of_keys = _position_columns(positions[:, : key.shape[2]], spare, key.dtype)
        context = functional.scaled_dot_product_attention(
            torch.cat([query, of_queries.expand(*query.shape[:3], -1)], dim=-1),
            torch.cat([key, of_keys.expand(*key.shape[:3], -1)], dim=-1),
            functional.pad(value, (0, spare)),
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=rows > 1 and mask is None,  # in this order torch.compile sees a plain bool
            scale=scale,
        )
        return context[..., : self.head_dim]

    def _eager(
        self, alibi: Tensor, positions: Tensor | None, mask: Tensor | None, hidden: Tensor
    ) -> tuple[Tensor, Tensor]:
        """ALiBi and mask as the eager forward wants them: [batch · heads, 1, keys] and additive."""
        batch, rows = hidden.shape[:2]
        if positions is not None:
            values = torch.tensor(slopes(self.num_heads), device=hidden.device)[:, None] * positions[:, None]
            alibi = values.expand(batch, -1, -1).reshape(batch * self.num_heads, 1, -1).to(hidden.dtype)
        keys = alibi.shape[-1]
        if mask is None:
            mask = torch.ones(rows, keys, dtype=torch.bool, device=hidden.device).tril(keys - rows)
        return alibi, torch.zeros((), dtype=hidden.dtype).where(mask, torch.finfo(hidden.dtype).min)


@_kept
def slopes(heads: int) -> tuple[float, ...]:
    """ALiBi's slopes (Press et al. 2022): for n = 2^k heads powers of 2^(-8/n); beyond, odd powers of its root."""
    power = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return tuple(first + [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)])


def _key_positions(attention_mask: Tensor, num_heads: int, dtype: torch.dtype) -> Tensor:
    """In place of BloomModel.build_alibi_tensor: the keys' positions, int64 [batch or 1, keys].

    From a padding mask [batch, keys] those that transformers gives. Under a mask [batch, 1, queries, keys] plain ones:
    softmax does not see where a document begins.
    """
    if attention_mask.ndim == 4:
        return torch.arange(attention_mask.shape[-1], device=attention_mask.device)[None]
    return (attention_mask.cumsum(-1) - 1) * attention_mask


@_kept
def _slope_columns(
    values: tuple[float, ...], scale: float, columns: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Queries' columns [heads, 1, columns]: each slope (over the softmax scale) as three parts, each of them twice."""
    with torch.inference_mode(False):  # a later backward pass may use it
        rest = torch.tensor(values, dtype=torch.float64, device=device) / scale
        parts = []
        for _ in range(3):
            parts.append(rest.to(dtype))
            rest = rest - parts[-1].double()
        both = torch.stack([part for part in parts for _ in range(2)], dim=-1)
        return functional.pad(both, (0, columns - 6))[:, None]


@_kept
def _plain_columns(keys: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`_position_columns` of positions 0 … keys - 1."""
    with torch.inference_mode(False):  # a later backward pass may use it
        return _position_columns(torch.arange(keys, device=device)[None], columns, dtype)


def _position_columns(positions: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """Keys' columns [batch or 1, 1, keys, columns]: multiples of 256 and the rest, exact in bfloat16 below 65,536."""
    low = positions % 256
    pair = torch.stack([positions - low, low], dim=-1).to(dtype)
    return functional.pad(pair.repeat(1, 1, 3), (0, columns - 6))[:, None]


@_kept
def _bias(values: tuple[float, ...], length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The causal mask with ALiBi, [1, heads, length, length]."""
    with torch.inference_mode(False):  # a later backward pass may use it
        place = torch.arange(length, device=device)
        distance = place - place[:, None]
        bias = torch.tensor(values, device=device)[:, None, None] * distance
        return bias.masked_fill(distance > 0, -math.inf).to(dtype)[None]


def _is_bloom(model_or_config: Any) -> bool:
    return getattr(model_or_config, "config", model_or_config).model_type == "bloom"


def _family(model_or_config: Any) -> Any:
    """The causal language model class; raises UserError where transformers has none for this config."""
    if isinstance(model_or_config, torch.nn.Module):
        return type(model_or_config)
    try:
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(model_or_config)]
    except KeyError:
        raise UserError(f"{model_or_config.model_type} has no causal language model", "choose another model") from None


def _capability() -> int:
    """The GPU's major compute capability (8: Ampere and Ada, 9: Hopper); 0 without one."""
    return torch.cuda.get_device_capability()[0] if torch.cuda.is_available() else 0
