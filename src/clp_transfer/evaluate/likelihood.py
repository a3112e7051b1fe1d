"""The negative log-likelihood of every document, in float64, from windows computed together and shared out over ranks.

The model's body runs on windows of one length. What it gives for the tokens to predict is gathered until there is
enough for the head, whose matrix product would be slow for one short window. The logits of a batch never exist.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clp_transfer.errors import UserError
from clp_transfer.evaluate.head import ROWS, logits_losses, token_losses
from clp_transfer.evaluate.perplexity import evaluating
from clp_transfer.evaluate.refusals import NotFinite
from clp_transfer.evaluate.windows import Windows, batches
from clp_transfer.train.loss import find_bend

log = logging.getLogger(__name__)

Document = NDArray[np.int32]
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Bytes of activations in flight. On a CPU more is slower: they should stay near the processor.
CPU_BYTES, GPU_SHARE = 64 << 20, 0.5


def default_precision(device: str) -> str:
    """The precision of matrix products where the config leaves it open."""
    return "fp32" if device == "cpu" else "bf16"


class Likelihood:
    """A causal language model that tells the nats of documents.

    `precision`: of matrix products (`fp32`, `bf16`, `fp16`, by autocast); the loss is float32, sums are float64.
    `batch_size`: windows at a time; None: as many as fit. On a GPU, what does not fit is halved until it does.
    """

    def __init__(self, model: Any, precision: str = "fp32", batch_size: int | None = None) -> None:
        self.model, self.precision, self.batch_size = model, precision, batch_size
        self.device: torch.device = next(model.parameters()).device
        if precision == "fp16" and self.device.type == "cpu":
            raise UserError("evaluate.precision=fp16 needs a GPU", "use evaluate.precision=bf16 or fp32")
        self.dtype = DTYPES[precision]
        try:
            self.bend = find_bend(model)
        except (AttributeError, TypeError):  # not built as transformers' own models are
            self.bend = None
        head = model.get_output_embeddings() if self.bend is not None else None
        self.weight = None if head is None else head.weight.detach()
        self.bias = None if head is None or head.bias is None else head.bias.detach()
        if self.weight is not None and self.dtype is not None:
            self.weight = self.weight.to(self.dtype)

    def nats(
        self,
        documents: list[Document],
        windows: Windows,
        part: tuple[int, int] = (0, 1),
        progress: Callable[[int], None] | None = None,
    ) -> NDArray[np.float64]:
        """Nats of each window, float64 [windows]; with `part` = (rank, ranks) of this rank's windows alone, else 0.

        `documents`: ids int32 [n + 1] each, the beginning token first. `progress` hears of tokens when they are done.

        Raises UserError naming the document where a loss is not finite, and where one window does not fit the memory.
        """
        found = np.zeros(len(windows))
        mine = batches(windows, self._tokens(windows), self.batch_size, part)
        gathered = _Gathered(self, found, windows)
        with evaluating(self.model):
            for batch in mine:
                for numbers, hidden, targets in self._forward(documents, windows, batch):
                    gathered.add(numbers, hidden, targets)
                if progress:
                    progress(int(windows.scored[batch].sum()))
            gathered.flush()
        return found

    def losses(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Nats of each target, float32 [n]; `hidden` is [n, d], or [n, V] of logits where the head is unusual."""
        if self.weight is None:
            return logits_losses(hidden, targets)
        return token_losses(hidden.to(self.weight.dtype), self.weight, targets, self.bias, self.bend)

    def _forward(
        self, documents: list[Document], windows: Windows, batch: NDArray[np.int64]
    ) -> list[tuple[NDArray[np.int64], Tensor, Tensor]]:
        """Of the windows' tokens to predict: each one's window, its hidden state, its id."""
        length = int(windows.length[batch[0]])
        rows = [documents[windows.document[w]][windows.end[w] - length : windows.end[w] + 1] for w in batch]
        ids = torch.from_numpy(np.stack(rows).astype(np.int64)).to(self.device)
        scored = torch.from_numpy(windows.scored[batch]).to(self.device)
        chosen = torch.arange(length, device=self.device) >= length - scored[:, None]
        try:
            hidden = self._run(ids[:, :-1])[chosen]
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise UserError(
                    f"one window of {length} tokens does not fit the GPU's memory", "lower evaluate.window"
                ) from error
            hidden = None
        if hidden is None:  # outside of the handler, which holds on to what did not fit
            torch.cuda.empty_cache()
            log.info("%d windows of %d tokens do not fit the GPU's memory at once; halved", len(batch), length)
            half = len(batch) // 2
            return self._forward(documents, windows, batch[:half]) + self._forward(documents, windows, batch[half:])
        return [(np.repeat(batch, windows.scored[batch]), hidden, ids[:, 1:][chosen])]

    def _run(self, ids: Tensor) -> Tensor:
        """What the head reads [rows, length, d]; the logits where the head is unusual."""
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            if self.weight is None:
                return self.model(input_ids=ids, use_cache=False).logits
            return self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state

    def _tokens(self, windows: Windows) -> int:
        """How many tokens' activations may be in flight, by a rough count of what a layer holds at once."""
        config = self.model.config.get_text_config() if hasattr(self.model, "config") else None
        width = int(getattr(config, "hidden_size", 1024))
        inner = int(getattr(config, "intermediate_size", None) or 4 * width)
        size = 4 * (8 * width + 3 * inner)
        if getattr(config, "_attn_implementation", "sdpa") == "eager":  # it holds all scores
            size += 8 * int(windows.length.max(initial=1)) * int(getattr(config, "num_attention_heads", None) or 16)
        if self.weight is None:
            size += 6 * int(getattr(config, "vocab_size", None) or 1 << 16)
        free = CPU_BYTES if self.device.type == "cpu" else int(GPU_SHARE * torch.cuda.mem_get_info(self.device)[0])
        return max(1, free // size)


class _Gathered:
    """Hidden states on their way to the head: enough of them at a time."""

    def __init__(self, likelihood: Likelihood, nats: NDArray[np.float64], windows: Windows) -> None:
        self.likelihood, self.nats, self.windows = likelihood, nats, windows
        self.enough = ROWS // 2 if likelihood.device.type == "cpu" else 8 * ROWS
        self.held: list[tuple[NDArray[np.int64], Tensor, Tensor]] = []
        self.count = 0

    def add(self, numbers: NDArray[np.int64], hidden: Tensor, targets: Tensor) -> None:
        """Note each target's window, its hidden state and its id."""
        self.held.append((numbers, hidden, targets))
        self.count += len(numbers)
        if self.count >= self.enough or self.likelihood.weight is None:
            self.flush()

    def flush(self) -> None:
        """Turn what is held into nats; raises UserError where one is not finite."""
        if not self.held:
            return
        numbers = np.concatenate([one[0] for one in self.held])
        hidden, targets = (torch.cat([one[i] for one in self.held]) for i in (1, 2))  # type: ignore[misc]
        self.held, self.count = [], 0
        losses = self.likelihood.losses(hidden, targets).double().cpu().numpy()
        if not np.isfinite(losses).all():
            spoilt = self.windows.document[numbers[~np.isfinite(losses)]]
            raise NotFinite(int(spoilt.min()))
        np.add.at(self.nats, numbers, losses)
