"""Paths on this machine: globs and number ranges, in an order where part 2 comes before part 10."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from clp_transfer.errors import UserError

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST_NUMBERS = 100_000
SHOWN_NAMES = 8


def expand_ranges(pattern: str) -> list[str]:
    """`part_{1..20}.gz` as twenty names, as a shell does it: `{01..20}` keeps its zeros, `{3..1}` counts down."""
    match = RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = (int(number) for number in match.groups())
    if abs(last - first) >= MOST_NUMBERS:
        raise UserError(f"{pattern} stands for more than {MOST_NUMBERS:,} files", "use a smaller range, or a glob")
    padded = any(len(number) > 1 and number.startswith("0") for number in match.groups())
    width = max(map(len, match.groups())) if padded else 0
    numbers = range(first, last + 1) if first <= last else range(first, last - 1, -1)
    tails = expand_ranges(pattern[match.end() :])
    return [f"{pattern[: match.start()]}{str(n).zfill(width)}{tail}" for n in numbers for tail in tails]


def natural(name: str) -> tuple[list[str | int], str]:
    """Sort key under which numbers inside names count as numbers."""
    parts = re.split(r"(\d+)", name, flags=re.ASCII)  # text and digits by turns
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def find_paths(pattern: str) -> list[Path]:
    """The files that a path or glob (`~`, `*`, `?`, `[a-z]`, `**`) names, in natural order.

    Raises UserError where there are none, naming what is there instead.
    """
    try:
        path = Path(pattern).expanduser()
    except RuntimeError as error:  # ~nobody
        raise UserError(f"{pattern}: there is no such user's home folder", "write the path out") from error
    if path.is_file():  # also where its name has a bracket in it
        return [path]
    if path.is_dir():
        raise UserError(f"{pattern} is a folder: {_content(path)}", f"name its files, such as {path}/*.jsonl.gz")
    # Unlike Path.glob, this passes over hidden files.
    matches = map(Path, glob.iglob(str(path), recursive=True))  # noqa: PTH207
    found = sorted(filter(Path.is_file, matches), key=lambda p: natural(str(p)))
    if not found:
        raise UserError(f"{pattern} matches no file: {_content(_nearest_folder(path))}", "mend the path or the pattern")
    return found


def _nearest_folder(path: Path) -> Path:
    """The deepest folder on the way to the path that there is and that no wildcard names."""
    return next(p for p in path.parents if p.is_dir() and not glob.has_magic(str(p)))


def _content(folder: Path) -> str:
    entries = sorted((f"{p.name}/" if p.is_dir() else p.name for p in folder.iterdir()), key=natural)
    return f"{folder.resolve()} has {shorten(entries)}" if entries else f"{folder.resolve()} is empty"


def shorten(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
