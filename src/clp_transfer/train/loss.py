"""Next-token cross-entropy that never holds the logits of a whole batch."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

log = logging.getLogger(__name__)

ROWS = 512


class _LinearCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of `hidden @ weight.T`, its gradients made chunk by chunk in the forward pass.

    The logits of `ROWS` positions at a time are made, turned into their own gradient in place and dropped, so
    memory is O(ROWS · V) instead of O(tokens · V), at the same three matrix products as the usual way.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """Hidden [n, d] and weight [V, d] in one dtype, targets int64 [n]; returns the float32 mean loss."""
        count = hidden.shape[0]
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, count, ROWS):
            rows = slice(start, start + ROWS)
            wanted = targets[rows, None]
            logits = (hidden[rows] @ weight.T).float()
            normaliser = logits.logsumexp(dim=-1, keepdim=True)
            total += (normaliser - logits.gather(1, wanted)).sum()
            # softmax minus one-hot is the gradient of the loss by the logits.
            grad = logits.sub_(normaliser).exp_()
            grad.scatter_add_(1, wanted, grad.new_full(wanted.shape, -1.0))
            grad = grad.div_(count).to(hidden.dtype)
            grad_hidden[rows] = grad @ weight
            grad_weight += grad.T @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_weight.to(weight.dtype))
        return total / count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        """Scale the stored gradients by the incoming one."""
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0].to(grad_hidden.dtype), grad_weight * grads[0].to(grad_weight.dtype), None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy (float32, nats) of targets int64 [...] under logits `hidden @ weight.T`, hidden [..., d].

    Equal to `cross_entropy((hidden @ weight.T).float(), targets)`, gradients included, within rounding.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    return _LinearCrossEntropy.apply(hidden.flatten(0, -2), weight, targets.flatten())


class CausalLoss(nn.Module):
    """A causal language model whose forward pass returns the loss; this is what DDP and DeepSpeed wrap."""

    def __init__(self, model: Any, fused: bool) -> None:
        super().__init__()
        self.model = model
        self.fused = fused and self._fits()

    def forward(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        """Mean loss in nats of targets int64 [batch, length], each the token after its input."""
        if self.fused:
            hidden = self.model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
            return linear_cross_entropy(hidden, self.model.get_output_embeddings().weight, targets)
        logits = self.model(input_ids=input_ids, use_cache=False).logits
        return functional.cross_entropy(logits.float().flatten(0, -2), targets.flatten())

    @torch.no_grad()
    def _fits(self) -> bool:
        """Whether the model's logits are simply its last hidden state times its head (no scaling, no cap, no bias)."""
        head = self.model.get_output_embeddings()
        if head is None or getattr(head, "bias", None) is not None:
            return False
        ids = torch.arange(8, device=head.weight.device)[None] % head.weight.shape[0]
        hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        same = torch.allclose(hidden @ head.weight.T, self.model(input_ids=ids, use_cache=False).logits, atol=1e-4)
        if not same:
            log.info("the fused loss does not fit this model family; using its own logits")
        return same
