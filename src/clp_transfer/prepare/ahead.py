"""Work done ahead in threads: one draws the items, others work on them; the results come in the items' order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
NONE_LEFT = object()


@contextmanager
def worked_ahead(items: Iterator[T], work: Callable[[T], R], *, threads: int, limit: int) -> Iterator[Iterator[R]]:
    """An iterator over `work(item)` for all items, in order; at most `limit` are drawn before they are asked for.

    `work` runs for up to `threads` items at once, and from when the context is entered. What it or `items` raises is
    raised where the result is asked for. Leaving the context waits for what has begun and drops the rest.
    """
    drawing, working = ThreadPoolExecutor(1), ThreadPoolExecutor(threads)

    def result(drawn: Future[T | object]) -> tuple[R] | None:
        item = drawn.result()
        return None if item is NONE_LEFT else (work(item),)  # type: ignore[arg-type]

    def begin() -> Future[tuple[R] | None]:
        return working.submit(result, drawing.submit(next, items, NONE_LEFT))

    def results(following: deque[Future[tuple[R] | None]]) -> Iterator[R]:
        while (one := following.popleft().result()) is not None:
            following.append(begin())
            yield one[0]

    try:
        yield results(deque(begin() for _ in range(limit)))
    finally:
        for pool in (drawing, working):
            pool.shutdown(cancel_futures=True)
