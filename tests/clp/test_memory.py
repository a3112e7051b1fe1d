"""Freed memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes
from clp_transfer.clp.memory import give_back
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.free(libc.malloc(30 << 20))  # from here on glibc keeps blocks of this size
blocks = [libc.malloc(16 << 20) for _ in range(4)]
for block in blocks:
    ctypes.memset(block, 1, 16 << 20)
for block in blocks[:3]:  # the one above stays, so that the heap cannot shrink by itself
    libc.free(block)
kept = held()
give_back()
print(kept - held())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_what_tables_held_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 40
