"""A model's shapes from its config alone: which parameters grow with the vocabulary."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from clp_transfer.errors import UserError

log = logging.getLogger(__name__)

MORE = 64


@dataclass(frozen=True)
class Skeleton:
    """What a built model says: its parameters' names, not the file's.

    `by_token`: every parameter and stored buffer with a dimension that grows with the vocabulary.
    """

    input: str
    head: str | None
    head_bias: str | None
    tied: bool
    rows: int
    by_token: frozenset[str]


def plain_config(raw: dict[str, Any]) -> Any | None:
    """config.json itself, where it says all that the tables' shapes have to be compared with; else None.

    To import the family's own class takes a second and 100 MB for some. Decoders only that transformers knows, in one
    part, without code.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    family = raw.get("model_type")
    known = family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and family not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    told = type(raw.get("vocab_size")) is int and type(raw.get("tie_word_embeddings")) is bool
    parts = any(isinstance(value, dict) and "vocab_size" in value for value in raw.values())
    if not known or not told or parts or "auto_map" in raw or raw.get("is_encoder_decoder"):
        return None
    return SimpleNamespace(**raw)


def load_config(folder: Path, trust_remote_code: bool) -> Any | None:
    """The model's transformers config; None where transformers does not know the family.

    Raises UserError for a model that is no decoder.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
        config.get_text_config().vocab_size  # noqa: B018 - a family without one is searched by name
    except Exception as error:  # custom code may raise anything
        log.info("%s: no config of a known family (%s)", folder, str(error).partition("\n")[0])
        return None
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"{folder} is an encoder-decoder ({config.model_type})", "take a causal language model as the source"
        )
    return config


def build(config: Any, trust_remote_code: bool) -> Skeleton | None:
    """Build the model on the meta device with two vocabulary sizes; None where transformers cannot."""
    try:
        model, larger = (_empty(_enlarged(config, extra), trust_remote_code) for extra in (0, MORE))
    except Exception as error:  # custom code may raise anything
        log.info("cannot build a %s (%s)", getattr(config, "model_type", "model"), str(error).partition("\n")[0])
        return None
    shapes, grown = _shapes(model), _shapes(larger)
    names = {id(tensor): name for name, (tensor, _) in shapes.items()}
    inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    weight = getattr(inputs, "weight", None)
    if weight is None or id(weight) not in names:
        return None
    own, bias = getattr(head, "weight", None), getattr(head, "bias", None)
    return Skeleton(
        input=names[id(weight)],
        head=_name_of(model, head, names, own),
        head_bias=names.get(id(bias)),
        tied=own is weight,
        rows=weight.shape[0],
        by_token=frozenset(n for n, (_, shape) in shapes.items() if grown.get(n, (None, shape))[1] != shape),
    )


def _empty(config: Any, trust_remote_code: bool) -> Any:
    """The model without memory for its weights."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def _enlarged(config: Any, extra: int) -> Any:
    """The config with so many more tokens, for each of the tables that it gives a size by token (Gemma 3n: two)."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    for name in {"vocab_size", *(n for n in vars(text) if n.startswith("vocab_size"))}:
        if isinstance(getattr(text, name, None), int):
            setattr(text, name, getattr(text, name) + extra)
    return config


def _shapes(model: Any) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Parameters and stored buffers by name, each once, with their shapes."""
    stored = model.state_dict().keys()
    tensors = {**dict(model.named_parameters()), **{n: b for n, b in model.named_buffers() if n in stored}}
    return {name: (tensor, tuple(tensor.shape)) for name, tensor in tensors.items()}


def _name_of(model: Any, head: Any, names: dict[int, str], own: Any) -> str | None:
    """The head's own name, under which a file may hold it even where it is tied to the input."""
    if own is None:
        return None
    module = next((name for name, found in model.named_modules() if found is head), None)
    return f"{module}.weight" if module else names.get(id(own))
