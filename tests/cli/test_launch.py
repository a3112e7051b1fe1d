"""The launcher of a pipeline's steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCHER = """
import os, time
from clp_transfer.cli.launch import Launcher
from clp_transfer.config.schema import Config
Launcher(Config(), [], [])
print(os.getpid(), "DIE_WITH_PARENT" in os.environ, flush=True)
time.sleep(60)
"""
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LAUNCHER!r}])"


def ended(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="Linux only")
@pytest.mark.parametrize("asked", ["1", ""])
def test_a_killed_make_leaves_no_pipeline_running(asked: str) -> None:
    """make sets DIE_WITH_PARENT; started by hand, a pipeline outlives the shell. Its children do not hear of it."""
    environment = os.environ | {"DIE_WITH_PARENT": asked}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        words = parent.stdout.readline().split()
        pid = int(words[0])
        try:
            assert words[1] == "False"
            os.kill(parent.pid, signal.SIGKILL)
            parent.wait()
            until = time.time() + (10 if asked else 0.5)
            while time.time() < until and not ended(pid):
                time.sleep(0.05)
            assert ended(pid) is bool(asked)
        finally:
            if not ended(pid):
                os.kill(pid, signal.SIGKILL)
