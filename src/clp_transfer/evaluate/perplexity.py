"""How well a model predicts held-out text: nats per token, and bits per byte, which compares across tokenizers.

The text is one stream: whole documents end to end, each closed by its end-of-text token. The stream is cut
into disjoint windows of `window` targets; a window's context is the one token before it (end-of-text before the
very first) and its own tokens. So every token, separators included, is predicted exactly once, whatever the
window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clp_transfer.evaluate.head import logits_losses
from clp_transfer.evaluate.refusals import NotFinite, check_ids
from clp_transfer.packed import BYTES, END, WORDS

POLICY = (
    "documents end to end, disjoint windows, one token of context carried over the cut (end-of-text before"
    " the first); every token is predicted once, end-of-text included"
)

# Most float32 numbers of logits at a time: for a whole batch, and for the log-softmax's copy of a part of it.
BATCH_LOGITS = 1 << 27
CHUNK_LOGITS = 1 << 22


@dataclass(frozen=True)
class Perplexity:
    """Total negative log-likelihood in nats, and the units by which it can be divided.

    `tokens` counts all predicted tokens, each document's end-of-text included; `bytes` (UTF-8) and `words`
    count the documents' text alone, so they are the same for every tokenizer.
    """

    nats: float
    tokens: int
    bytes: int
    words: int
    documents: int

    @property
    def nats_per_token(self) -> float:
        """Mean cross-entropy, the training loss."""
        return self.nats / self.tokens

    @property
    def token_perplexity(self) -> float:
        """exp(nats / tokens); compares models of one tokenizer only."""
        return _exp(self.nats / self.tokens)

    @property
    def word_perplexity(self) -> float:
        """exp(nats / words), as the paper's harness weighs it."""
        return _exp(self.nats / self.words)

    @property
    def byte_perplexity(self) -> float:
        """exp(nats / UTF-8 bytes)."""
        return _exp(self.nats / self.bytes)

    @property
    def bits_per_byte(self) -> float:
        """nats / (bytes · ln 2): bits needed for one byte of text; compares across tokenizers."""
        return self.nats / (self.bytes * math.log(2))

    def as_dict(self) -> dict[str, int | float | None]:
        """All counts and ratios for JSON; a perplexity too large for a float is None."""
        ratios = ("nats_per_token", "token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
        values = {name: float(getattr(self, name)) for name in ratios}
        return {
            "tokens": self.tokens,
            "bytes": self.bytes,
            "words": self.words,
            "documents": self.documents,
            **{name: value if math.isfinite(value) else None for name, value in values.items()},
        }


def exp_or_none(value: float) -> float | None:
    """exp of the value, for JSON: None where that is too large for a float."""
    return None if math.isinf(found := _exp(value)) else found


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def measure(
    model: torch.nn.Module,
    tokens: NDArray[Any],
    documents: NDArray[np.int64],
    *,
    eos_id: int,
    window: int,
    batch_size: int,
) -> Perplexity:
    """Negative log-likelihood of whole documents under a causal language model.

    `tokens`: ids [n], every document closed by `eos_id`; `documents`: int64 [d, 3], see `packed`. The model
    runs where it is and in its own precision; log-softmax is float32, sums are float64. Its train/eval mode is
    restored. Batches are smaller than `batch_size` where the logits would be too many to hold.

    Raises UserError for an id beyond the embedding's rows and for a loss that is not finite.
    """
    if len(tokens) == 0 or int(documents[-1, END]) != len(tokens):
        raise ValueError(f"{len(tokens)} tokens, but the index of documents ends elsewhere")
    check_ids(model, [tokens])
    nats = 0.0
    with evaluating(model):
        for start, losses in stream_losses(model, tokens, eos_id, window, batch_size):
            total = float(losses.sum())
            if not math.isfinite(total):
                raise _not_finite(losses, start, window, documents)
            nats += total
    return Perplexity(
        nats=nats,
        tokens=len(tokens),
        bytes=int(documents[:, BYTES].sum()),
        words=int(documents[:, WORDS].sum()),
        documents=len(documents),
    )


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout and gradients; the model's train/eval mode is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def stream_losses(
    model: torch.nn.Module,
    tokens: NDArray[Any],
    eos_id: int,
    window: int,
    batch_size: int,
    part: tuple[int, int] = (0, 1),
) -> Iterator[tuple[int, torch.Tensor]]:
    """Of the stream's batches, in order: where each begins, and its tokens' nats, float64 [tokens] on the CPU.

    `part` = (rank, ranks): this rank's batches alone. To be read within `evaluating`.
    """
    device = next(model.parameters()).device
    batches = _batches(tokens, eos_id, window, batch_size, _vocabulary(model))
    for start, inputs, targets in islice(batches, part[0], None, part[1]):
        yield start, _token_losses(model, inputs.to(device), targets.to(device))


def _token_losses(model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Nats of each target in reading order, float64 [rows · length] on the CPU; the logits end with this call."""
    logits = model(input_ids=inputs, use_cache=False).logits.flatten(0, 1)
    return logits_losses(logits, targets.flatten(), CHUNK_LOGITS).cpu().double()


def _batches(
    tokens: NDArray[Any], eos_id: int, window: int, batch_size: int, vocabulary: int
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """(offset of the first target, inputs, targets), int64 [rows, length]; a last short window comes alone."""
    whole = len(tokens) // window
    rows = max(1, min(batch_size, BATCH_LOGITS // (window * vocabulary)))
    spans = [(row * window, min(rows, whole - row), window) for row in range(0, whole, rows)]
    if rest := len(tokens) % window:
        spans.append((whole * window, 1, rest))
    for start, count, length in spans:
        stop = start + count * length
        targets = np.asarray(tokens[start:stop], dtype=np.int64)
        before = eos_id if start == 0 else int(tokens[start - 1])
        inputs = np.concatenate([[before], targets[:-1]])
        yield (
            start,
            torch.from_numpy(inputs).view(count, length),
            torch.from_numpy(targets).view(count, length),
        )


def _vocabulary(model: torch.nn.Module) -> int:
    """Columns of the logits, as far as the model's config tells (a wrapper may hide it)."""
    return int(getattr(getattr(model, "config", None), "vocab_size", None) or 1 << 16)


def _not_finite(losses: torch.Tensor, start: int, window: int, documents: NDArray[np.int64]) -> NotFinite:
    position = start + int((~losses.isfinite()).nonzero()[0])
    document = int(np.searchsorted(documents[:, END], position, side="right"))
    return NotFinite(document, place=f"token {position} of all, window {position // window}; ")
