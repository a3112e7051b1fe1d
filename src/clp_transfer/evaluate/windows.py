"""How a document is cut into windows that a model's context can hold, every token predicted exactly once.

Each document stands alone, behind one token that begins it. Its first window predicts the first `window` tokens. Each
further one predicts the next `stride` tokens (the last: what is left) and reaches back as far as `window` inputs allow.
With `stride` = `window` these are lm-evaluation-harness's: `get_rolling_token_windows(…, context_len=1)` followed by
`make_disjoint_window`, in which only the last window, to be full, overlaps the one before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clp_transfer.errors import UserError

POLICIES = {
    "rolling": "each document alone behind one beginning token, disjoint windows, the last filled up with context, as"
    " in lm-evaluation-harness's loglikelihood_rolling; no end-of-text is predicted",
    "strided": "each document alone behind one beginning token, overlapping windows in which the last tokens, as many"
    " as the stride, are predicted and the rest is context; no end-of-text is predicted",
}


@dataclass(frozen=True)
class Windows:
    """Windows of documents, one each row, all int64 [windows].

    With a document's ids behind its beginning token as x[0…n], a window's inputs are x[end - length … end - 1], and of
    what follows each of them its last `scored` are predicted, the very last being x[end].
    """

    document: NDArray[np.int64]
    end: NDArray[np.int64]
    length: NDArray[np.int64]
    scored: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.end)


def cut(lengths: NDArray[np.int64], window: int, stride: int) -> Windows:
    """The windows of documents of so many tokens each, int64 [documents]; 1 ≤ `stride` ≤ `window`.

    A document without tokens has no window.
    """
    further = np.maximum(lengths - window, 0)
    counts = np.where(lengths > 0, 1 + -(-further // stride), 0)
    document = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    whole = lengths[document]
    end = np.minimum(window + number * stride, whole)
    before = np.where(number > 0, window + (number - 1) * stride, 0)
    return Windows(document, end, np.minimum(end, window), end - before)


def strides(windows: str, window: int, stride: int | None) -> int:
    """The stride of a policy; null is half a window for `strided`. Raises UserError for one that does not fit it."""
    for name, value in (("window", window), ("stride", stride)):
        if value is not None and value < 1:
            raise UserError(f"evaluate.{name}={value} makes no sense", "expected: 1 or more tokens")
    if windows != "strided":
        if stride is not None and stride != window:
            raise UserError(
                f"evaluate.stride={stride} goes only with evaluate.windows=strided, not {windows}",
                "set evaluate.windows=strided, or leave evaluate.stride out",
            )
        return window
    stride = max(1, window // 2) if stride is None else stride
    if stride > window:
        raise UserError(
            f"evaluate.stride={stride} is more than the window of {window} tokens, so tokens would be left out",
            f"set evaluate.stride to at most {window}",
        )
    return stride


def batches(windows: Windows, tokens: int, rows: int | None, part: tuple[int, int] = (0, 1)) -> list[NDArray[np.int64]]:
    """Numbers of windows that are computed together: of one length, so that none is padded; the longest first.

    At most `rows` of them where that is given, else at most `tokens` tokens, but always one. `part` = (rank, ranks):
    this rank's windows alone, which do not depend on `tokens`: ranks may have different memories.
    """
    order = np.argsort(-windows.length, kind="stable")[part[0] :: part[1]]
    found: list[NDArray[np.int64]] = []
    for group in np.split(order, np.flatnonzero(np.diff(windows.length[order])) + 1):
        if len(group):
            step = rows or max(1, tokens // int(windows.length[group[0]]))
            found += [group[i : i + step] for i in range(0, len(group), step)]
    return found
