"""Peak memory of a process, and work in a process of its own, so that no side sees the other's memory."""

from __future__ import annotations

import importlib
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from clp_transfer.files import read_json, write_json

MEGABYTE = 1e6


def peak_bytes() -> int:
    """The most memory this process has held since it began, or since `reset_peak`, in bytes.

    Read from Linux's VmHWM: `ru_maxrss` starts at what the parent held when it forked. Elsewhere `ru_maxrss`.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def reset_peak() -> bool:
    """Let the peak begin again from what is held now; False where the system cannot (anything but Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def run_alone(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call `module:function` with JSON arguments in a process of its own; its result, with `peak_bytes` if it had none.

    Raises RuntimeError with the end of what the process said where it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        task, result = Path(folder) / "task.json", Path(folder) / "result.json"
        write_json(task, {"function": function, "arguments": arguments})
        # -P: a checkout's evaluate.py and clp.py must not shadow the packages of those names.
        command = [sys.executable, "-P", "-m", "clp_transfer.bench.memory", str(task), str(result)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if done.returncode:
            raise RuntimeError(f"{function} failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return read_json(result)


def _main(task: Path, result: Path) -> None:
    request = json.loads(task.read_text(encoding="utf-8"))
    module, _, name = request["function"].partition(":")
    values = getattr(importlib.import_module(module), name)(**request["arguments"])
    write_json(result, {"peak_bytes": peak_bytes(), **values})


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
