"""Child processes that never outlive us, their output line by line to the screen and to a log file."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """In the child: be killed when the parent dies, however it dies (Linux). Otherwise a killed run leaves writers."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):  # not Linux: the stage's lock still keeps two writers apart
        return


class Child:
    """A running command; every line it prints goes to `show` and to the log file."""

    def __init__(self, name: str, command: list[str], log_file: Path, label: str) -> None:
        self.name, self.log_file, self.label = name, log_file, label
        log_file.parent.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "true"}
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            preexec_fn=die_with_parent,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.log_file.open("w", encoding="utf-8") as log:
            # Whatever becomes of the screen or the disk, it has to be read: a full pipe stops the child for ever.
            for line in self.process.stdout:
                with suppress(OSError, ValueError):
                    log.write(line)
                    log.flush()
                with suppress(OSError, ValueError):
                    print(f"{self.label} {line}", end="", flush=True)

    def finished(self) -> int | None:
        """The exit status, once the process has ended and all its output is shown; None while it runs."""
        status = self.process.poll()
        if status is not None:
            self.reader.join(timeout=10)
        return status

    def ask_to_stop(self) -> None:
        """Ask it to save what it can, and to end."""
        self.process.terminate()

    def stop(self, seconds: float) -> None:
        """Wait so long for it to end, then make it."""
        try:
            self.process.wait(timeout=max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.reader.join(timeout=10)
