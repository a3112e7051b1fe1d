"""Time and memory of a whole command are its own, not its parent's."""

from __future__ import annotations

import os
import sys

import pytest

from clp_transfer.bench.command import measure

HELD = "x = bytearray({}); x[::4096] = b'x' * len(x[::4096])"


def test_peak_memory_is_the_command_s_own() -> None:
    ballast = bytearray(300_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    small = measure([sys.executable, "-c", "print('said')"])
    assert 1_000_000 < small.peak_bytes < 100_000_000 and "said" in small.output
    large = measure([sys.executable, "-c", HELD.format(200_000_000)])
    assert 200_000_000 < large.peak_bytes < 290_000_000


def test_a_child_of_the_command_counts() -> None:
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HELD.format(200_000_000)!r}])"
    assert measure([sys.executable, "-c", nested]).peak_bytes > 200_000_000


def test_seconds_are_the_command_s() -> None:
    assert 0.3 <= measure([sys.executable, "-c", "import time; time.sleep(0.3)"]).seconds < 3


def test_environment_and_empty_folder() -> None:
    code = "import os; print(os.environ['A'], os.listdir(), 'CLP_BENCH_COMMAND' in os.environ)"
    assert measure([sys.executable, "-c", code], {**os.environ, "A": "b"}).output.split() == ["b", "[]", "False"]


def test_a_failing_command_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)failed \(3\).*because"):
        measure([sys.executable, "-c", "print('because'); raise SystemExit(3)"])
