"""A document mask: tokens attend to their own document alone, though several lie in one sequence.

Families with position ids get them counted from each document's start. transformers reads from them, where there is
neither a padding mask nor a cache, that the documents are packed, and masks in each layer's own way (sliding windows
too). BLOOM has no positions, only distances: it gets the mask itself.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from clp_transfer.errors import UserError


def arguments(model: Any, segments: Tensor) -> dict[str, Tensor]:
    """What to call the model with besides `input_ids` and `use_cache=False`.

    `segments`, int64 [batch, length]: a number for each token's document; a change of it begins a new one. Raises
    UserError for a family that takes neither positions nor a mask; `check` says whether what it takes has its effect.
    """
    if model.config.model_type == "bloom":
        return {"attention_mask": mask(segments)}
    if "position_ids" in inspect.signature(model.forward).parameters:
        return {"position_ids": positions(segments)}
    raise _unfit(model)


def positions(segments: Tensor) -> Tensor:
    """Each token's place in its document, int64 [batch, length], from 0."""
    place = torch.arange(segments.shape[1], device=segments.device)
    return place - torch.where(_begins(segments), place, 0).cummax(dim=1).values


def mask(segments: Tensor) -> Tensor:
    """Whether a token (row) sees another (column): bool [batch, 1, length, length], causal within each document."""
    documents = _begins(segments).cumsum(dim=1)
    return (documents[:, :, None] == documents[:, None, :]).tril()[:, None]


def _begins(segments: Tensor) -> Tensor:
    """Whether a document begins here; the first token of a sequence counts."""
    return torch.nn.functional.pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)


@torch.no_grad()
def check(model: Any) -> None:
    """Raise UserError where the model's documents see each other in spite of `arguments`: some families ignore them.

    Three documents in one sequence have to give the logits that each gives alone. Call it before the weights are
    partitioned or turned into a half precision.
    """
    weight = model.get_input_embeddings().weight
    ids = torch.arange(12, device=weight.device)[None] % weight.shape[0]
    segments = torch.tensor([[0] * 3 + [1] * 5 + [2] * 4], device=weight.device)
    was_training = model.training
    model.eval()
    try:
        alone = torch.cat(
            [model(input_ids=part, use_cache=False).logits for part in ids.split([3, 5, 4], dim=1)], dim=1
        )
        seeing = model(input_ids=ids, use_cache=False).logits
        masked = model(input_ids=ids, use_cache=False, **arguments(model, segments)).logits
    except (ValueError, RuntimeError) as error:
        raise _unfit(model) from error
    finally:
        model.train(was_training)
    leak, before = (float((one - alone).float().abs().max()) for one in (masked, seeing))
    if leak > 0.05 * before + 1e-6 * float(alone.float().abs().max()):
        raise _unfit(model)


def _unfit(model: Any) -> UserError:
    return UserError(
        f"documents of one sequence cannot be kept apart in a {model.config.model_type} with its attention "
        f"{model.config.get_text_config()._attn_implementation}",
        "choose budget.document_mask=false; for BLOOM, train.attention=auto",
    )
