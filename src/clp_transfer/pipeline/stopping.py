"""SIGTERM, or the end of its time, ends a chain of steps in good order: what runs saves what it can, and it goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# EX_TEMPFAIL of sysexits.h, as training has it: not finished, run it again.
GO_ON = getattr(os, "EX_TEMPFAIL", 75)
ASKING = (signal.SIGTERM, signal.SIGALRM)


class Stopped(SystemExit):
    """The chain was asked to stop; the process ends with status 75 and no traceback."""

    def __init__(self) -> None:
        super().__init__(GO_ON)


@contextmanager
def stopping(seconds: float | None = None) -> Iterator[None]:
    """Inside the block SIGTERM, and the end of `seconds` (None: no end), raises `Stopped`, once.

    What comes after the first is ignored until the block ends: it is ending its child processes then. Outside the main
    thread, which alone has signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        for one in ASKING:
            signal.signal(one, signal.SIG_IGN)
        raise Stopped

    before = {one: signal.signal(one, stop) for one in ASKING}
    signal.setitimer(signal.ITIMER_REAL, seconds or 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for one, handler in before.items():
            signal.signal(one, signal.SIG_DFL if handler is None else handler)
