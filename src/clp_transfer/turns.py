"""Whose turn it is at the disk: what somebody waits for comes before what is copied or hashed in the background."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

_CHANGED = Condition()
_urgent = 0


@contextmanager
def urgent() -> Iterator[None]:
    """While this lasts, whoever asks with `let_pass` before each block stands still.

    Not for what itself waits for somebody who asks: both would stand still for ever.
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def let_pass() -> None:
    """Wait until nothing is urgent."""
    with _CHANGED:
        _CHANGED.wait_for(lambda: not _urgent)


def _count(more: int) -> None:
    global _urgent
    with _CHANGED:
        _urgent += more
        _CHANGED.notify_all()
