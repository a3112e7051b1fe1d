"""Build a model from nothing: any transformers family, sized by the config."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from clp_transfer.errors import UserError
from clp_transfer.train.job import ArchitectureConfig

TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def build(architecture: ArchitectureConfig, tokenizer: Any, seed: int) -> Any:
    """A freshly drawn causal language model with the tokenizer's vocabulary; float32.

    Raises UserError for a family or a field that transformers does not know.
    """
    ids = {name: getattr(tokenizer, name) for name in TOKEN_IDS}
    vocab_size = max(tokenizer.get_vocab().values()) + 1
    # Without the fields: a transformers config takes any keyword and keeps it, a misspelt one too.
    known = config_of(ArchitectureConfig(architecture.model_type), {})
    unknown = [name for name in architecture.fields if not hasattr(known, name)]
    if unknown:
        raise UserError(
            f"architecture.fields has {', '.join(unknown)}, which a {architecture.model_type} config does not have",
            f"use the field names of transformers' {type(known).__name__}",
        )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config_of(architecture, {"vocab_size": vocab_size, **ids}))
    _check_shapes(model, architecture)
    return model


@torch.no_grad()
def _check_shapes(model: Any, architecture: ArchitectureConfig) -> None:
    """Compute two tokens: sizes that do not fit each other (heads, widths) only show in a forward pass."""
    try:
        model(input_ids=torch.zeros(1, 2, dtype=torch.long))
    except RuntimeError as error:
        raise UserError(
            f"a {architecture.model_type} with {architecture.fields} cannot compute: {error}",
            "make the sizes fit: the width a multiple of the heads, the heads a multiple of the key-value heads",
        ) from error


def config_of(architecture: ArchitectureConfig, extra: dict[str, Any]) -> Any:
    """The family's config with the architecture's fields and `extra`; raises UserError for an unknown family."""
    try:
        return AutoConfig.for_model(architecture.model_type, **architecture.fields, **extra)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"no {architecture.model_type!r} model can be built with {architecture.fields}: {error}",
            "check architecture.model_type and architecture.fields",
        ) from error
