"""The transfer engine: its rows, its whole command, and its command at 7B. Each has a file and can run alone."""

from __future__ import annotations

from clp_transfer.bench import transfer_7b, transfer_command, transfer_rows
from clp_transfer.bench.rows import Row


def run(quick: bool) -> list[Row]:
    """Measure all; raises AssertionError where a peer's result is not ours."""
    return [row for part in (transfer_rows, transfer_command, transfer_7b) for row in part.run(quick)]
