"""The source as a whole model that runs: for what has to be measured or trained with its body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clp_transfer.clp.models import Model
from clp_transfer.clp.precision import fast_bfloat16_processor
from clp_transfer.errors import UserError


@dataclass(frozen=True)
class Body:
    """A model whose parameters are frozen; `names`: its tables' parameters by the names they are stored under."""

    model: Any
    names: dict[str, str]
    dtype: torch.dtype

    @property
    def positions(self) -> int | None:
        """The longest input that it was made for; None where its config sets no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)


def load_body(source: Model, device: str, dtype: torch.dtype | None = None) -> Body:
    """Load a source, frozen, in eval mode. `dtype` None: bfloat16 where that is fast, else float32.

    Raises UserError for a model that transformers cannot build.
    """
    from transformers import AutoModelForCausalLM

    dtype = dtype or (torch.bfloat16 if device != "cpu" or fast_bfloat16_processor() else torch.float32)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            source.folder, dtype=dtype, local_files_only=True, trust_remote_code=source.trust_remote_code
        )
    except Exception as error:  # each model class has its own
        raise UserError(
            f"{source.folder} cannot be built as a causal language model: {str(error).partition(chr(10))[0]}",
            "choose a method that needs no running model (not calibrate, and auto without a validation text)",
        ) from error
    model = model.to(device).eval().requires_grad_(False)
    embedding, output, layout = model.get_input_embeddings(), model.get_output_embeddings(), source.layout
    _forget_padding(embedding)
    tables = {layout.input: embedding.weight, layout.head: output.weight, layout.head_bias: output.bias}
    named = list(model.named_parameters())
    names = {stored: _name(named, table) for stored, table in tables.items() if stored is not None}
    return Body(model, names, dtype)


def install(model: Any, input_table: Tensor, head: Tensor | None, bias: Tensor | None = None) -> None:
    """Give a model new tables, [V_t, d], in place: the embedding, and the head (the same one if tied).

    The modules stay, and with them whatever else they do (some models scale their embeddings).
    """
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    _forget_padding(embedding)
    old = embedding.weight
    embedding.weight = nn.Parameter(input_table.to(old.device, old.dtype), requires_grad=False)
    output.weight = embedding.weight
    if head is not None:
        output.weight = nn.Parameter(head.to(old.device, old.dtype), requires_grad=False)
    if bias is not None:
        output.bias = nn.Parameter(bias.to(old.device, old.dtype), requires_grad=False)
    embedding.num_embeddings = output.out_features = model.config.get_text_config().vocab_size = len(input_table)


def _forget_padding(embedding: nn.Embedding) -> None:
    """The source's padding id means another token in the target, and may lie beyond its rows."""
    embedding.padding_idx = None


def _name(named: list[tuple[str, Tensor]], parameter: Tensor) -> str:
    return next(name for name, one in named if one is parameter)
