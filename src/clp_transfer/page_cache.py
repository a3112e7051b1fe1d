"""Whether the system's cache holds a part of a file: asked without setting off that it reads any of it."""

from __future__ import annotations

import ctypes
import mmap

_PAGE = mmap.PAGESIZE
_MINCORE = getattr(ctypes.CDLL(None), "mincore", None)  # Linux


def is_cached(descriptor: int, start: int, count: int) -> bool:
    """Whether each page of `count` bytes of an open file, from `start` on, is in memory.

    A read that is not to wait (RWF_NOWAIT) finds out too, but makes the system fill its cache with what follows. True
    where the system does not tell: for files that the user does not own and may not write to, among others.
    """
    first = start // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    length = start + count - first
    if _MINCORE is None or count <= 0:
        return True
    found = (ctypes.c_ubyte * -(-length // _PAGE))()
    try:
        # Private, so that a file that is only read may be mapped; nothing is written.
        with mmap.mmap(descriptor, length, flags=mmap.MAP_PRIVATE, offset=first) as pages:
            # Where the mapping begins has no name here: one that an interrupt leaves would keep it from being closed.
            failed = _MINCORE(ctypes.byref(ctypes.c_char.from_buffer(pages)), ctypes.c_size_t(length), found)
    except (OSError, ValueError):  # nothing that can be mapped, or shorter by now
        return True
    return bool(failed) or all(page & 1 for page in bytes(found))
