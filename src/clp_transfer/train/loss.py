"""Next-token cross-entropy that never holds the logits of a whole batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from clp_transfer.train import documents

log = logging.getLogger(__name__)

# Rows at a time: as many as these bytes of float32 logits hold, between a least and a most. Each chunk adds to the
# gradient of the whole table, so it must not be small; a GPU needs more rows to be busy.
CHUNKS = {"cpu": (64 << 20, 256, 512), "cuda": (512 << 20, 256, 8192)}


@dataclass(frozen=True)
class Bend:
    """What a family does to its head's logits z: `scale · z`, then `cap · tanh(· / cap)`."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """The logits as the family has them; float32 at least where anything is done to them."""
        if self == Bend():
            return logits
        logits = logits.to(_exact(logits.dtype)) * self.scale
        return logits if self.cap is None else (logits / self.cap).tanh_() * self.cap

    def backward(self, grad: Tensor, bent: Tensor) -> Tensor:
        """The gradient by z, in place, from the gradient by the bent logits."""
        if self.cap is not None:
            grad.mul_(1 - (bent / self.cap) ** 2)
        return grad if self.scale == 1.0 else grad.mul_(self.scale)


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, bend: Bend | None = None
) -> Tensor:
    """Mean cross-entropy (float32, nats) of targets int64 [...] under the logits `bend(hidden @ weight.T + bias)`.

    hidden [..., d], weight [V, d], bias [V]. Equal to `cross_entropy` of all the float32 logits at once, gradients
    included, within rounding; products are in the autocast's dtype, sums over rows in float32.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    if not torch.is_grad_enabled():  # the function would make the gradients all the same
        hidden, weight, bias = hidden.detach(), weight.detach(), None if bias is None else bias.detach()
    flat = hidden.flatten(0, -2), weight, bias, targets.flatten()
    return _LinearCrossEntropy.apply(*flat, bend or Bend(), dtype)


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradients are made chunk by chunk in the forward pass: a chunk's logits become their own gradient.

    Memory is O(chunk · V) instead of O(tokens · V), at the same three matrix products as the usual way.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, bend: Bend, dtype: torch.dtype
    ) -> Tensor:
        """Hidden [n, d], weight [V, d], bias [V], targets int64 [n]; returns the mean loss."""
        needs = ctx.needs_input_grad
        ctx.dtypes = [None if one is None else one.dtype for one in (hidden, weight, bias)]
        exact = _exact(dtype)
        hidden, table = hidden.to(dtype), weight.to(dtype)
        shift = None if bias is None else bias.to(dtype)
        grads = [
            torch.empty_like(hidden) if needs[0] else None,
            torch.zeros_like(table, dtype=exact) if needs[1] else None,
            torch.zeros_like(shift, dtype=exact) if needs[2] and shift is not None else None,
        ]
        total = torch.zeros((), dtype=exact, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for rows in _chunks(len(hidden), len(table), hidden.device.type):
                bent = bend(functional.linear(hidden[rows], table, shift))
                loss, grad = _softmax_gradient(bent, targets[rows, None])
                total += loss
                if any(needs):
                    grad = bend.backward(grad, bent)
                    # Where the logits have the dtype of the products, their memory takes the gradient.
                    grad = bent.copy_(grad) if bent.dtype == dtype else grad.to(dtype)
                    _accumulate(grads, rows, grad, hidden, table)
        ctx.grads, ctx.count = grads, len(hidden)
        return total.div_(len(hidden)).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The kept gradients times the incoming one, in place: a table is large. So it can run only once."""
        kept, ctx.grads = ctx.grads, None
        if kept is None:
            raise RuntimeError("the chunked loss makes its gradients once: it has no second backward pass")
        factor, found = grads[0] / ctx.count, []
        for one, dtype in zip(kept, ctx.dtypes, strict=True):
            # Times the factor in float32 at least: it has no more bits to lose.
            found.append(None if one is None else one.to(_exact(one.dtype)).mul_(factor).to(dtype))
        return *found, None, None, None


def _accumulate(grads: list[Tensor | None], rows: slice, grad: Tensor, hidden: Tensor, table: Tensor) -> None:
    """Add a chunk's part to the gradients of hidden, table and bias."""
    of_hidden, of_table, of_bias = grads
    if of_hidden is not None:
        torch.mm(grad, table, out=of_hidden[rows])
    if of_table is not None and of_table.dtype == grad.dtype:
        of_table.addmm_(grad.T, hidden[rows])
    elif of_table is not None:
        of_table += grad.T @ hidden[rows]
    if of_bias is not None:
        of_bias += grad.sum(0, dtype=of_bias.dtype)


def _softmax_gradient(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The summed cross-entropy of logits [n, V] and targets [n, 1], and softmax minus one-hot, in float32 at least."""
    top, where = logits.max(dim=-1, keepdim=True)
    picked = logits.gather(1, wanted)
    softmax = torch.softmax(logits, dim=-1, dtype=_exact(logits.dtype))
    # The largest probability is at least 1 / V, so its logarithm is exact, and gives the normaliser without another
    # pass over the logits.
    loss = (top.to(softmax.dtype) - softmax.gather(1, where).log() - picked.to(softmax.dtype)).sum()
    return loss, softmax.scatter_add_(1, wanted, softmax.new_full(wanted.shape, -1.0))


class _LogitsCrossEntropy(torch.autograd.Function):
    """Cross-entropy of given logits with no float32 copy of them all: beside them there is only their gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits [n, V], targets int64 [n]; returns the mean loss."""
        ctx.grad = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        # The mean's gradient, before it is scaled up, is nearly all zero in float16: there the sum's is kept.
        ctx.divisor = 1 if logits.dtype == torch.float16 else len(logits)
        total = torch.zeros((), dtype=_exact(logits.dtype), device=logits.device)
        for rows in _chunks(len(logits), logits.shape[1], logits.device.type):
            loss, grad = _softmax_gradient(logits[rows], targets[rows, None])
            total += loss
            if ctx.grad is not None:
                ctx.grad[rows] = grad.div_(ctx.divisor)
        return total.div_(len(logits)).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """The kept gradient times the incoming one, which float16 cannot hold: a scale of 65,536."""
        kept, ctx.grad = ctx.grad, None
        if kept.dtype != torch.float16:
            return kept.mul_(grads[0].to(kept.dtype)), None
        scale = grads[0].to(_exact(kept.dtype)) / len(kept)
        for rows in _chunks(len(kept), kept.shape[1], kept.device.type):
            kept[rows] = kept[rows].to(scale.dtype) * scale
        return kept, None


def logits_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy (float32, nats) of logits [..., V] and targets int64 [...], as `cross_entropy` in float32."""
    logits = logits if torch.is_grad_enabled() else logits.detach()
    return _LogitsCrossEntropy.apply(logits.flatten(0, -2), targets.flatten())


def _chunks(count: int, vocabulary: int, device: str) -> Iterator[slice]:
    """Slices of about the same length, by `CHUNKS`."""
    size, least, most = CHUNKS.get(device, CHUNKS["cuda"])
    parts = -(-count // min(most, max(least, size // (4 * vocabulary))))
    rows = -(-count // max(parts, 1))
    for start in range(0, count, max(rows, 1)):
        yield slice(start, start + rows)


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The dtype of softmax and sums."""
    return torch.promote_types(dtype, torch.float32)


class LossHead(nn.Linear):
    """An output head that gives the loss where it gets targets. An existing head gets this class, with its weights.

    The loss is computed within the module's own call, where DeepSpeed ZeRO 3 has its weights in one piece.
    """

    bend: Bend

    def forward(self, hidden: Tensor, targets: Tensor | None = None) -> Tensor:
        """The logits [..., V]; with targets int64 [...] the mean loss."""
        if targets is None:
            return super().forward(hidden)
        return linear_cross_entropy(hidden, self.weight, targets, self.bias, self.bend)


class CausalLoss(nn.Module):
    """A causal language model whose forward pass returns the loss; this is what DDP and DeepSpeed wrap.

    `fused` is whether the loss is made from the hidden states, chunk by chunk. Families whose logits are more than
    their head's, scaled or capped, make their own logits.
    """

    def __init__(self, model: Any, fused: bool) -> None:
        super().__init__()
        self.model = model
        bend = find_bend(model) if fused else None
        self.fused = bend is not None
        if bend is not None:
            head = model.get_output_embeddings()
            head.__class__, head.bend = LossHead, bend

    def forward(self, input_ids: Tensor, targets: Tensor, segments: Tensor | None = None) -> Tensor:
        """Mean loss in nats of targets int64 [batch, length], each the token after its input.

        With `segments` (`documents.arguments`) tokens attend to their own document alone.
        """
        more = {} if segments is None else documents.arguments(self.model, segments)
        if self.fused:
            hidden = self.model.base_model(input_ids=input_ids, use_cache=False, **more).last_hidden_state
            return self.model.get_output_embeddings()(hidden, targets)
        return logits_cross_entropy(self.model(input_ids=input_ids, use_cache=False, **more).logits, targets)


@torch.no_grad()
def find_bend(model: Any) -> Bend | None:
    """How the model's logits come from its head; None if not by a linear head and a `Bend`, as far as can be seen."""
    head = model.get_output_embeddings()
    if type(head) not in (nn.Linear, LossHead) or not head.weight.numel():
        return None
    config = model.config.get_text_config()
    read = {
        name: getattr(config, name, None) for name in ("logit_scale", "lm_head_multiplier", "final_logit_softcapping")
    }
    scale = float(
        read["logit_scale"] or read["lm_head_multiplier"] or 1 / (getattr(config, "logits_scaling", None) or 1)
    )
    ids = torch.arange(8, device=head.weight.device)[None] % head.weight.shape[0]
    was_training = model.training
    model.eval()  # dropout would make the two differ
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    wanted = model(input_ids=ids, use_cache=False).logits.float()
    model.train(was_training)
    if not wanted.isfinite().all():  # spoilt weights; what they lead to is for the loss to show
        return None
    logits = functional.linear(hidden, head.weight, head.bias).float()
    near = 1e-4 if head.weight.dtype == torch.float32 else 2e-2
    for bend in (Bend(scale, read["final_logit_softcapping"]), Bend()):
        if torch.allclose(bend(logits), wanted, rtol=near, atol=near * float(wanted.abs().max())):
            return bend
    log.info("the fused loss does not fit %s; using its own logits", type(model).__name__)
    return None
