"""AdamW with weight decay on matrices only."""

from __future__ import annotations

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


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
