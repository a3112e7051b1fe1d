"""How far a long step is: a bar on a terminal, a line every half minute elsewhere, with the rate and the time left."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

log = logging.getLogger(__name__)

SECONDS = 30.0


class Progress:
    """Bytes done out of `total` (None: unknown) of the step `what`; a context manager."""

    def __init__(self, what: str, total: int | None, done: int = 0) -> None:
        self.what, self.total, self.start, self.done = what, total, done, done
        self.began = self.said = time.monotonic()
        terminal = sys.stderr.isatty()
        # Closed bars leave nothing behind: what came of the step is a log line of its own.
        self._bar = tqdm(
            desc=what, total=total, initial=done, unit="B", unit_scale=True, leave=False, disable=not terminal
        )
        self._quiet = terminal

    def to(self, done: int) -> None:
        """So many bytes are done, those that a former run has done included."""
        self._bar.update(done - self.done)
        self.done = done
        now = time.monotonic()
        if not self._quiet and now - self.said >= SECONDS:
            self.said = now
            log.info("%s", self)

    def add(self, size: int) -> None:
        """So many more bytes are done."""
        self.to(self.done + size)

    def __str__(self) -> str:
        elapsed = time.monotonic() - self.began
        return tqdm.format_meter(
            self.done,
            self.total or 0,
            elapsed,
            prefix=self.what,
            unit="B",
            unit_scale=True,
            initial=self.start,
            ncols=100,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
