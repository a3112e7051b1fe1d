"""Blocks of a document that are made from numbers: what stands between `<!-- kind: name -->` and `<!-- /kind -->`."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import zip_longest

from clp_transfer.errors import UserError

UNMEASURED = "*Not measured yet.*"


def renewed(text: str, kind: str, made: Callable[[str], str]) -> str:
    """The document with every block of one kind made anew; everything else stays as it is, the marks too.

    `made` gives a block by its name, which is empty for `<!-- kind -->`. Raises UserError for a mark without its
    other half: a block without an end would swallow what follows it, and one that is passed over grows old unseen.
    """
    marks = list(re.finditer(rf"<!-- (?P<end>/?){re.escape(kind)}(?:: (?P<name>[\w-]+))? -->", text))
    parts, done = [], 0
    for opened, closed in zip_longest(marks[::2], marks[1::2]):
        if opened["end"] or closed is None or not closed["end"]:
            raise _single(text, opened, kind)
        parts += [text[done : opened.end()], "\n", made(opened["name"] or ""), "\n"]
        done = closed.start()
    return "".join([*parts, text[done:]])


def _single(text: str, mark: re.Match[str], kind: str) -> UserError:
    line = text.count("\n", 0, mark.start()) + 1
    lacks = "opens" if mark["end"] else "closes"
    other = f"<!-- {kind}: … --> before" if mark["end"] else f"<!-- /{kind} --> after"
    return UserError(
        f"line {line}: nothing {lacks} {mark[0]}", f"put {other} its block, each mark on a line of its own"
    )
