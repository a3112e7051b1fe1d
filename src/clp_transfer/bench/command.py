"""Wall time and peak memory of a whole command, taken from a process that is small itself.

On Linux a process's `ru_maxrss` begins at what its parent held when it was started. So the bench, which holds tables,
does not start the command itself: it starts this module, which imports nothing heavy, and that starts the command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finished:
    """A command that ended well. `peak_bytes` is the most that it, or a process it waited for, held in memory."""

    seconds: float
    peak_bytes: int
    output: str


def measure(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end, in an empty working folder. Raises RuntimeError with the end of what it said."""
    with tempfile.TemporaryDirectory() as empty:
        log = Path(empty) / "log.txt"
        work = Path(empty) / "work"
        work.mkdir()
        request = {"command": [str(part) for part in command], "folder": str(work), "log": str(log)}
        # -P: a checkout's evaluate.py and clp.py must not shadow the packages of those names.
        launcher = [sys.executable, "-P", "-m", __name__]
        variables = {**(os.environ if environment is None else environment), "CLP_BENCH_COMMAND": json.dumps(request)}
        done = subprocess.run(launcher, env=variables, stdout=subprocess.PIPE, text=True, check=True, cwd=empty)
        output = log.read_text(encoding="utf-8", errors="replace")
    found = json.loads(done.stdout)
    if found["status"]:
        raise RuntimeError(f"{' '.join(request['command'])} failed ({found['status']}):\n{output[-4000:]}")
    return Finished(found["seconds"], found["peak_bytes"], output)


def _main() -> None:
    request = json.loads(os.environ.pop("CLP_BENCH_COMMAND"))
    with Path(request["log"]).open("wb") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            request["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=request["folder"]
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024
    found = {
        "seconds": seconds,
        "peak_bytes": usage.ru_maxrss * unit,
        "status": os.waitstatus_to_exitcode(status),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    _main()
