"""Whose turn it is at the disk: what somebody waits for comes before what is copied or hashed in the background."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep

# Seconds: courtesy, no more. What an interrupt left behind must not hold anybody for ever.
LONGEST = 60.0
OFTEN = 0.005
# When each began. No lock: a signal between taking and releasing one would be worse than a question asked again.
_URGENT: dict[object, float] = {}


@contextmanager
def urgent() -> Iterator[None]:
    """While this lasts, whoever asks with `let_pass` before each block stands still, for LONGEST at most.

    Not for what itself waits for somebody who asks: both would stand still.
    """
    ours = object()
    try:
        _URGENT[ours] = monotonic()
        yield
    finally:
        _URGENT.pop(ours, None)


def let_pass() -> None:
    """Wait until nothing is urgent."""
    while any(monotonic() - began < LONGEST for began in list(_URGENT.values())):
        sleep(OFTEN)
