"""AdamW with weight decay on matrices only."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from clp_transfer.train.job import OptimConfig


def build(model: nn.Module, optim: OptimConfig, peak: float) -> torch.optim.AdamW:
    """AdamW, fused; norms and biases (anything with fewer than two dimensions) do not decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    first, second = optim.betas
    return torch.optim.AdamW(groups, lr=peak, betas=(first, second), eps=optim.eps, fused=True)


def state_elements(optimizer: Any) -> int:
    """How many numbers of optimizer state (Adam's moments) this rank holds, under whatever wraps the optimizer."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    values = [value for state in optimizer.state.values() for value in state.values()]
    return sum(value.numel() for value in values if torch.is_tensor(value) and value.ndim > 0)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
