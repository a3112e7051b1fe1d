"""GC4's archives: Python dictionaries end to end, on one line of some gigabytes, as MongoDB wrote them."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.job import SourceConfig
from clp_transfer.prepare.readers.fields import MISSING, drop_rule, field
from clp_transfer.prepare.readers.lines import ReadLimits
from clp_transfer.prepare.streams import BUFFER, Stream

# Where one dictionary ends and the next begins. A text that says this itself is lost with its row, as `malformed`.
SEAM = b"}{'url'"
# Bytes that a dictionary may have beside its longest text, and how many a byte of text takes at most (`\xad`).
OTHER_FIELDS, ESCAPED = 1 << 16, 4


def gc4(stream: Stream, config: SourceConfig, limits: ReadLimits, left_out: Counter[str]) -> Iterator[Document]:
    """The dictionaries' texts, named by their `id` or `<stem>:<number>`.

    Counted: `malformed` (no such literal, or no UTF-8), `without_field`, `dropped_<value>` and `too_long`. Raises
    UserError where the first has no such text.
    """
    text_of, name_of, drop = field(config.text), field(config.id), drop_rule(config.drop)
    for number, written in enumerate(_dictionaries(stream, ESCAPED * limits.longest + OTHER_FIELDS), 1):
        row = None if written is None else _parsed(written)
        text = MISSING if row is None else text_of(row)
        if number == 1 and written is not None and not isinstance(text, str):
            raise UserError(
                f"{stream.name} does not begin with a Python dictionary that has the text {config.text!r}",
                "use the reader gc4 for GC4's archives only, with text: raw_content",
            )
        if row is None:
            left_out["too_long" if written is None else "malformed"] += 1
        elif (reason := drop(row)) is not None:
            left_out[reason] += 1
        elif not isinstance(text, str):
            left_out["without_field"] += 1
        else:
            name = name_of(row)
            yield Document(f"{stream.stem}:{number}" if name is MISSING or name is None else str(name), text)


def _dictionaries(stream: Stream, longest: int) -> Iterator[bytes | None]:
    """The stream cut at its seams; None in the place of what has more than `longest` bytes."""
    held, searched, skipping = bytearray(), 0, False
    while piece := stream.read(BUFFER):
        held += piece
        while (end := held.find(SEAM, max(0, searched - len(SEAM)))) >= 0:
            yield None if skipping else bytes(held[: end + 1])
            del held[: end + 1]
            searched, skipping = 0, False
        searched = len(held)
        if searched > longest:
            del held[: -len(SEAM)]
            searched, skipping = len(held), True
    if skipping or held.strip():
        yield None if skipping else bytes(held)


def _parsed(written: bytes) -> dict[str, Any] | None:
    """The dictionary, read as a literal: nothing in it is run."""
    try:
        row = ast.literal_eval(written.decode().replace("\0", "").strip())
    except (ValueError, SyntaxError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
