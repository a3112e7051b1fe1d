"""Whose turn it is at the disk: what somebody waits for comes before what is copied or hashed in the background."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock

_LOCK, _FREE = Lock(), Event()
_FREE.set()
_waited_for = 0


@contextmanager
def first() -> Iterator[None]:
    """While this lasts, whoever asks with `let_pass` before each block stands still.

    Not for what itself waits for somebody who asks: both would stand still for ever.
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def let_pass() -> None:
    """Wait until nobody is `first`."""
    _FREE.wait()


def _count(more: int) -> None:
    global _waited_for
    with _LOCK:
        _waited_for += more
        if _waited_for:
            _FREE.clear()
        else:
            _FREE.set()
