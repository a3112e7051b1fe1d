"""Files of the source that hold no table: placed in the target while its tables are still being made."""

from __future__ import annotations

from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from clp_transfer.clp.checkpoint.layout import Layout
from clp_transfer.clp.checkpoint.ranges import check_space, place
from clp_transfer.clp.checkpoint.weights import Weights
from clp_transfer.hashes import hashed_on_the_way


class Untouched:
    """Places them one by one in a thread of its own, from the moment it is made; `sizes` waits for the last.

    They do not depend on the method: whatever becomes of the tables, these files stay byte for byte what they are.
    `links` as for `ranges.place`. As a context manager it stops where the block fails.
    """

    def __init__(self, source: Weights, layout: Layout, out: Path, links: str) -> None:
        tables = {layout.input, layout.head, layout.head_bias, layout.tied_copy}
        self.files = [] if source.pickled else _without(tables, source)
        self._paths, self._out, self._links = [source.folder / file for file in self.files], out, links
        if links == "never":  # the tables' new size is not known yet
            check_space(out, sum(e.nbytes for e in source.entries.values() if e.name not in tables))
        self._stopped = False
        self._pool = ThreadPoolExecutor(1)
        self._placed = self._pool.submit(self._place)

    def sizes(self) -> dict[str, tuple[str, int]]:
        """How each file was placed (`cloned`, `linked`, `copied`) and its bytes; raises what placing it raised."""
        return self._placed.result()

    def outstanding(self) -> int:
        """The bytes that are still to be written, at most."""
        if self._links == "auto":
            return 0
        pairs = ((path, self._out / path.name) for path in self._paths)
        return sum(max(0, path.stat().st_size - _size(to)) for path, to in pairs)

    def __enter__(self) -> Untouched:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopped = kind is not None
        self._pool.shutdown()

    def _place(self) -> dict[str, tuple[str, int]]:
        found: dict[str, tuple[str, int]] = {}
        with ExitStack() as stack:
            # All at once, so that who hashes the source meanwhile reads none of what is read here.
            tells = {
                path: stack.enter_context(hashed_on_the_way(path)) for path in self._paths if self._links == "never"
            }
            for path in reversed(self._paths):  # the other way round than who hashes
                to = self._out / path.name
                how = place(path, to, self._links, tells.get(path), lambda: self._stopped)
                found[path.name] = (how, to.stat().st_size)
        return found


def _size(path: Path) -> int:
    """The bytes that a file has by now. Asked once: what an earlier run left there is removed at any moment."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _without(tables: Set[str | None], source: Weights) -> list[str]:
    """The files that stay as they are. In one of them no tensor is a table, or hidden by another file's of its name."""
    return [
        file
        for file, contents in source.contents.items()
        if not tables & contents.entries.keys()
        and all(source.entries[name] == entry for name, entry in contents.entries.items())
    ]
