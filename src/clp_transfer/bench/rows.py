"""One line of a bench: our figure, the peer's, how many times better ours is, and the bar it has to reach."""

from __future__ import annotations

import importlib.util
import statistics
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clp_transfer.files import write_json

NAME_WIDTH = 58


@dataclass(frozen=True)
class Row:
    """`name` says what was measured, at which sizes; `unit` is that of `ours` and `peer`.

    `ratio`: how many times better ours is than the peer's (None without a peer). `bar` is the least ratio asked
    for and `holds` whether it is reached; both None where no bar applies. `note` is printed below the table.
    """

    name: str
    unit: str
    ours: float | None
    peer: float | None
    peer_name: str
    ratio: float | None
    bar: float | None
    holds: bool | None
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON; `note` only where there is one."""
        values = asdict(self)
        if self.note is None:
            del values["note"]
        return values


def compare(
    name: str,
    unit: str,
    ours: float | None,
    peer: float | None,
    peer_name: str,
    *,
    bar: float | None = None,
    more_is_better: bool = False,
    note: str | None = None,
) -> Row:
    """A row with its ratio and verdict. `peer` None means that the peer could not be run: `note` then says why."""
    ratio = None
    if ours is not None and peer is not None:
        ratio = ours / peer if more_is_better else peer / ours
    holds = ratio >= bar if ratio is not None and bar is not None else None
    return Row(name, unit, ours, peer, peer_name, ratio, bar, holds, note)


def installed(package: str) -> bool:
    """Whether a peer's package can be imported here (found, not yet imported)."""
    return importlib.util.find_spec(package) is not None


def missing(package: str) -> str:
    """The note of a row whose peer is not there."""
    return f"{package} is not installed, so this peer was not run: pip install {package}"


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def interleaved(calls: Sequence[Callable[[], float]], repeats: int) -> list[float]:
    """The median of each call's own figure over rounds that run every call once.

    Taking turns shares out whatever else the machine does; the first round pays what is paid only once.
    """
    rounds = [[call() for call in calls] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def write(folder: Path, part: str, rows: Sequence[Row]) -> Path:
    """Write `<folder>/<part>.json`, whole or not at all."""
    path = folder / f"{part}.json"
    write_json(path, [row.as_dict() for row in rows])
    return path


def table(part: str, rows: Sequence[Row]) -> str:
    """The rows as aligned text, long names on several lines, the notes below."""
    header = (part, "ours", "peer", "", "times better", "bar", "")
    lines: list[tuple[str, ...]] = []
    for row in rows:
        first, *others = textwrap.wrap(f"{row.name} [{row.unit}]", NAME_WIDTH)
        figures = (_number(row.ours), _number(row.peer), row.peer_name, _number(row.ratio), _number(row.bar))
        lines.append((first, *figures, {True: "holds", False: "MISSED", None: ""}[row.holds]))
        lines += [(f"  {other}", *[""] * 6) for other in others]
    widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]
    out = [_aligned(header, widths), "-" * (sum(widths) + 2 * len(widths)), *(_aligned(line, widths) for line in lines)]
    return "\n".join(out + [f"  note: {note}" for note in dict.fromkeys(row.note for row in rows if row.note)])


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Numbers to the right, words to the left."""
    words = {0, 3, 6}
    pairs = enumerate(zip(cells, widths, strict=True))
    return "  ".join(cell.ljust(w) if i in words else cell.rjust(w) for i, (cell, w) in pairs).rstrip()


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
