"""Cross-entropy of single tokens from hidden states; the logits exist only in pieces."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from clp_transfer.train.loss import Bend

# On a CPU: most hidden states at a time, and entries of the vocabulary at a time for them. Their float32 logits are up
# to 8 MB, which stay in the processor's cache from the matrix product to the sum.
ROWS, ENTRIES = 2048, 1024
# On a GPU, whose matrix products want more: so many logits, of whole rows.
GPU_LOGITS = 1 << 28


@torch.no_grad()
def token_losses(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, bend: Bend | None = None
) -> Tensor:
    """Cross-entropy in nats, float32 [n], of targets int64 [n] under the logits `bend(hidden @ weight.T + bias)`.

    hidden [n, d], weight [V, d], bias [V]; products are in `hidden`'s dtype, everything after them in float32 at least.
    """
    bend = bend or Bend()
    if hidden.device.type == "cpu":
        size = -(-len(hidden) // -(-len(hidden) // ROWS))  # parts of about one size: a small one is slow
        found = [
            _by_entries(hidden[i : i + size], weight, targets[i : i + size], bias, bend)
            for i in range(0, len(hidden), size)
        ]
    else:
        size = max(1, GPU_LOGITS // len(weight))
        found = [
            _by_rows(hidden[i : i + size], weight, targets[i : i + size], bias, bend)
            for i in range(0, len(hidden), size)
        ]
    return torch.cat(found)


def logits_losses(logits: Tensor, targets: Tensor, most: int | None = None) -> Tensor:
    """Cross-entropy in nats, float32 [n], of targets int64 [n] under given logits [n, V].

    Some rows at a time, `most` float32 numbers of them: a copy of all the logits would double the memory.
    """
    most = most or (ROWS * ENTRIES if logits.device.type == "cpu" else GPU_LOGITS)
    size = max(1, most // logits.shape[-1])
    parts = [
        functional.cross_entropy(logits[i : i + size].float(), targets[i : i + size], reduction="none")
        for i in range(0, len(targets), size)
    ]
    return torch.cat(parts)


def _by_rows(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, bend: Bend) -> Tensor:
    """All entries for a few hidden states."""
    if hidden.dtype in (torch.bfloat16, torch.float16) and hidden.is_cuda:
        logits = torch.mm(hidden, weight.T, out_dtype=torch.float32)
    else:
        logits = torch.mm(hidden, weight.T).float()
    if bias is not None:
        logits += bias
    return functional.cross_entropy(bend(logits), targets, reduction="none")


def _by_entries(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, bend: Bend) -> Tensor:
    """A few entries at a time for the hidden states, each time their normaliser; then the normaliser of those.

    With y = log_softmax(x) every column has x - y = log Σ exp(x): one pass in torch's fused kernel, where max, exp and
    sum by themselves are four and half as fast.
    """
    rows, dtype = len(hidden), torch.promote_types(hidden.dtype, torch.float32)
    product = hidden.new_empty(rows * ENTRIES)
    exact = product if product.dtype == dtype else product.new_empty(rows * ENTRIES, dtype=dtype)
    normalisers = hidden.new_empty(rows, -(-len(weight) // ENTRIES), dtype=dtype)
    for number, start in enumerate(range(0, len(weight), ENTRIES)):
        part = weight[start : start + ENTRIES]
        shape = (rows, len(part))
        logits = torch.mm(hidden, part.T, out=product[: rows * len(part)].view(shape))
        if exact is not product:
            logits = exact[: rows * len(part)].view(shape).copy_(logits)
        if bias is not None:
            logits += bias[start : start + ENTRIES]
        logits = bend(logits)
        normalisers[:, number] = logits[:, 0] - torch.log_softmax(logits, 1)[:, 0]
    wanted = (hidden.to(dtype) * weight[targets]).sum(1)
    if bias is not None:
        wanted += bias[targets]
    losses = normalisers.logsumexp(1) - bend(wanted)
    if not losses.isfinite().all():  # an entry may be minus infinity, which is no mistake: once more, whole rows
        few = max(1, ROWS * ENTRIES // len(weight))
        parts = zip(hidden.split(few), targets.split(few), strict=True)
        losses = torch.cat([_by_rows(some, weight, ids, bias, bend) for some, ids in parts])
    return losses
