"""Windows against the harness's own functions and against a loop that slides over the tokens one by one."""

from __future__ import annotations

import numpy as np
import pytest
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from clp_transfer.errors import UserError
from clp_transfer.evaluate.windows import batches, cut, strides

LENGTHS = np.array([3, 0, 1, 8, 9, 7, 40, 16, 25])


def pieces(length: int, window: int, stride: int) -> list[tuple[list[int], list[int]]]:
    """(inputs, predicted ids) of each window of the document 1, 2, …, length behind the token 0."""
    x, found = np.arange(length + 1), cut(np.array([length]), window, stride)
    rows = zip(found.end, found.length, found.scored, strict=True)
    return [(x[e - n : e].tolist(), x[e - s + 1 : e + 1].tolist()) for e, n, s in rows]


@pytest.mark.parametrize("window", [1, 2, 8, 64])
def test_rolling_is_the_harness(window: int) -> None:
    for length in LENGTHS:
        theirs = get_rolling_token_windows(list(range(1, length + 1)), 0, window, 1)
        expected = [((a + b)[:-1], b) for a, b in map(make_disjoint_window, theirs)]
        assert pieces(int(length), window, window) == expected


@pytest.mark.parametrize(("window", "stride"), [(8, 1), (8, 3), (8, 8), (5, 4)])
def test_strided_gives_every_token_the_context_it_should_have(window: int, stride: int) -> None:
    for length in LENGTHS:
        seen = []
        for number, (inputs, predicted) in enumerate(pieces(int(length), window, stride)):
            assert len(inputs) <= window and inputs == list(range(inputs[0], inputs[0] + len(inputs)))
            assert inputs[-1] == predicted[-1] - 1
            assert len(predicted) <= (window if number == 0 else stride)
            if number:  # at least as much context as the policy promises
                assert predicted[0] - inputs[0] >= window - stride + 1
            seen += predicted
        assert seen == list(range(1, length + 1))


def test_documents_are_kept_apart() -> None:
    found = cut(LENGTHS, 8, 3)
    assert np.bincount(found.document, found.scored, len(LENGTHS)).tolist() == LENGTHS.tolist()
    assert 1 not in found.document  # it has no tokens


@pytest.mark.parametrize(("tokens", "rows"), [(1, None), (20, None), (1000, None), (1000, 2)])
@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_batches_hold_every_window_once(tokens: int, rows: int | None, ranks: int) -> None:
    windows, all_numbers = cut(LENGTHS, 8, 3), []
    for rank in range(ranks):
        found = batches(windows, tokens, rows, (rank, ranks))
        for batch in found:
            assert len(set(windows.length[batch])) == 1
            assert len(batch) <= (rows or max(1, tokens // windows.length[batch[0]]))
        all_numbers += [number for batch in found for number in batch]
    assert sorted(all_numbers) == list(range(len(windows)))


def test_strides() -> None:
    assert strides("rolling", 64, None) == 64 and strides("stream", 64, 64) == 64
    assert strides("strided", 64, None) == 32 and strides("strided", 1, None) == 1 and strides("strided", 64, 9) == 9
    with pytest.raises(UserError, match="more than the window of 64"):
        strides("strided", 64, 65)
    with pytest.raises(UserError, match=r"goes only with evaluate\.windows=strided"):
        strides("rolling", 64, 32)
    for window, stride in ((0, None), (64, 0), (64, -3)):
        for windows in ("strided", "rolling"):
            with pytest.raises(UserError, match="makes no sense"):
                strides(windows, window, stride)
