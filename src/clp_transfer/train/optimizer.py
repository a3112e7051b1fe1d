"""AdamW in named groups: embedding tables and body, each with and without weight decay."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import nn

from clp_transfer.train.job import OptimConfig
from clp_transfer.train.schedule import BODY, EMBEDDINGS, GROUPS


def embeddings(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of the input table and of the head (once where they are tied), under whatever wraps the model."""
    found: list[Any] = [part for part in module.modules() if hasattr(part, "get_input_embeddings")]
    if not found:
        return []
    parts = (found[0].get_input_embeddings(), found[0].get_output_embeddings())
    return list(dict.fromkeys(parameter for part in parts if part is not None for parameter in part.parameters()))


def build(model: nn.Module, optim: OptimConfig, peak: float) -> torch.optim.AdamW:
    """AdamW, fused. Each group has its `name`, and as `decay` the weight decay that it has when it learns.

    Norms and biases (anything with fewer than two dimensions) do not decay; tables do by `optim.decay_embeddings`.
    """
    tables = set(embeddings(model))
    groups = []
    for name in GROUPS:
        parameters = [p for p in model.parameters() if p.requires_grad and (p in tables) == (name == EMBEDDINGS)]
        decays = optim.weight_decay if name == BODY or optim.decay_embeddings else 0.0
        for decay, mine in (
            (decays, [p for p in parameters if p.ndim >= 2]),
            (0.0, [p for p in parameters if p.ndim < 2]),
        ):
            if mine:  # DeepSpeed removes empty groups
                groups.append({"params": mine, "name": name, "decay": decay, "weight_decay": decay})
    first, second = optim.betas
    return torch.optim.AdamW(groups, lr=peak, betas=(first, second), eps=optim.eps, fused=True)


def set_rates(optimizer: Any, rates: dict[str, float]) -> None:
    """Give each group of parameters the rate of its name; DeepSpeed and accelerate keep the names."""
    for group in optimizer.param_groups:
        group["lr"] = rates[group["name"]]


def still(optimizer: Any, names: Collection[str]) -> None:
    """Switch the weight decay of these groups off, and that of the others on."""
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0 if group["name"] in names else group["decay"]


@torch.no_grad()
def restart(optimizer: Any, name: str) -> None:
    """Set Adam's step counts of a group to 0: parameters that have stood still start with a fresh bias correction."""
    for state in _states(optimizer, name):
        if torch.is_tensor(state.get("step")):
            state["step"].zero_()
        elif "step" in state:
            state["step"] = 0


def _states(optimizer: Any, name: str) -> Iterator[dict[str, Any]]:
    """The states of a group's parameters, or of the flat pieces that ZeRO makes of them."""
    wrapper, inner = optimizer, optimizer
    while hasattr(inner, "optimizer"):
        wrapper, inner = inner, inner.optimizer
    if hasattr(wrapper, "sub_group_to_group_id"):  # ZeRO 3 hands its groups their pieces only while it updates them
        for piece, flat in enumerate(wrapper.fp32_partitioned_groups_flat):
            if inner.param_groups[wrapper.sub_group_to_group_id[piece]]["name"] == name:
                yield inner.state.get(flat, {})
        return
    for group in inner.param_groups:
        if group["name"] == name:
            yield from (inner.state.get(parameter, {}) for parameter in group["params"])
