"""Memory that is free, given back to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Return what the C library keeps of freed tables (glibc; elsewhere nothing happens).

    Worth it between the parts of a transfer, not within them: asking the system for the same pages again costs time.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
