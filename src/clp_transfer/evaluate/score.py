"""One text under one model: nats document by document, the work shared out over the ranks."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from clp_transfer.evaluate import perplexity
from clp_transfer.evaluate.likelihood import DTYPES, Likelihood
from clp_transfer.evaluate.refusals import NotFinite, check_ids
from clp_transfer.evaluate.scores import Scores
from clp_transfer.evaluate.texts import Text
from clp_transfer.evaluate.windows import POLICIES, Windows, cut
from clp_transfer.progress import Progress
from clp_transfer.train.together import rank, ranks, together

STREAM_ROWS = 32


@dataclass(frozen=True)
class Cutting:
    """How texts are cut: the policy (`rolling`, `strided`, `stream`), window and stride in tokens."""

    windows: str
    window: int
    stride: int

    def about(self) -> dict[str, Any]:
        """For the result: the policy in a word, its numbers, and in words."""
        policy = perplexity.POLICY if self.windows == "stream" else POLICIES[self.windows]
        return {"windows": self.windows, "window": self.window, "stride": self.stride, "policy": policy}


def score(likelihood: Likelihood, text: Text, cutting: Cutting) -> Scores:
    """Nats of a text's documents; the windows are shared out over the ranks, each of which gets the whole result.

    Raises UserError on every rank: for ids without an embedding row and, naming the document, for a loss that is not
    finite.
    """
    nats = together(lambda: _nats(likelihood, text, cutting))
    if ranks() > 1:
        summed = torch.from_numpy(nats)
        if dist.get_backend() == "nccl":
            summed = summed.to(likelihood.device)
        dist.all_reduce(summed)
        nats = summed.cpu().numpy()
    begins = 0 if cutting.windows == "stream" else 1
    tokens = np.array([len(ids) - begins for ids in text.documents], dtype=np.int64)
    return Scores(nats, np.stack([tokens, text.bytes, text.words], axis=1), text.parts)


def _nats(likelihood: Likelihood, text: Text, cutting: Cutting) -> NDArray[np.float64]:
    """This rank's share of each document's nats."""
    check_ids(likelihood.model, text.documents)
    try:
        if cutting.windows == "stream":
            return _stream_nats(likelihood, text, cutting)
        lengths = np.array([len(ids) - 1 for ids in text.documents], dtype=np.int64)
        windows = cut(lengths, cutting.window, cutting.stride)
        return _window_nats(likelihood, text, windows)
    except NotFinite as error:
        raise NotFinite(error.document, text.name) from error


def _window_nats(likelihood: Likelihood, text: Text, windows: Windows) -> NDArray[np.float64]:
    size = int(text.bytes.sum())
    each = size * ranks() / max(1, int(windows.scored.sum()))  # bytes of a token, as if all ranks went alike
    with Progress(text.name, size) if rank() == 0 else nullcontext() as bar:
        say = None if bar is None else lambda tokens: bar.add(round(each * tokens))
        nats = likelihood.nats(text.documents, windows, (rank(), ranks()), say)
    found: NDArray[np.float64] = np.bincount(windows.document, nats, len(text.documents)).astype(np.float64)
    return found


def _stream_nats(likelihood: Likelihood, text: Text, cutting: Cutting) -> NDArray[np.float64]:
    """As `perplexity.measure`, by document: a token's nats are of the document that it is in."""
    nats = np.zeros(len(text.documents))
    tokens = np.concatenate(text.documents)
    ends = np.cumsum([len(ids) for ids in text.documents])
    eos_id = int(text.documents[0][-1])
    rows, dtype = likelihood.batch_size or STREAM_ROWS, DTYPES[likelihood.precision]
    autocast = torch.autocast(likelihood.device.type, dtype=dtype, enabled=dtype is not None)
    with autocast, perplexity.evaluating(likelihood.model):
        batches = perplexity.stream_losses(likelihood.model, tokens, eos_id, cutting.window, rows, (rank(), ranks()))
        for start, found in batches:
            losses = found.numpy()
            owners = np.searchsorted(ends, np.arange(start, start + len(losses)), side="right")
            if not np.isfinite(losses).all():
                raise NotFinite(int(owners[np.flatnonzero(~np.isfinite(losses))[0]]))
            np.add.at(nats, owners, losses)
    return nats
