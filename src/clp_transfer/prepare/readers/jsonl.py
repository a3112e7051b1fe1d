"""JSON lines: an object a line, its text and its name in fields that may be nested."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.job import SourceConfig
from clp_transfer.prepare.readers.fields import MISSING, drop_rule, field
from clp_transfer.prepare.readers.lines import ReadLimits, bounded_lines
from clp_transfer.prepare.streams import Stream

# So many malformed lines at the beginning, and nothing else, are a file of another kind.
PATIENCE = 10
# Bytes that a line may have beside its longest text.
OTHER_FIELDS = 1 << 16


def jsonl(stream: Stream, config: SourceConfig, limits: ReadLimits, left_out: Counter[str]) -> Iterator[Document]:
    """The rows' texts, named by their `id` or `<stem>:<line number>`.

    Counted: `malformed` (no JSON object, or a text that is no string), `without_field`, `empty` (null), `too_long` and
    `dropped_<value>`. Raises UserError where the first row has no such field, or the first ten lines are malformed.
    """
    name_of = field(config.id)
    for number, row, text in rows_with_text(stream, config, limits, left_out):
        name = name_of(row)
        yield Document(f"{stream.stem}:{number}" if name is MISSING or name is None else str(name), text)


def rows_with_text(
    stream: Stream, config: SourceConfig, limits: ReadLimits, left_out: Counter[str]
) -> Iterator[tuple[int, dict[str, Any], str]]:
    """The line numbers, whole rows and texts that `jsonl` reads."""
    text_of, drop = field(config.text), drop_rule(config.drop)
    first = True
    for number, row, size in _rows(stream, limits, left_out):
        text = text_of(row)
        if first and text is MISSING:
            raise _no_field(stream, number, config.text, row)
        first = False
        reason = drop(row) if config.drop else None
        if reason is not None:
            left_out[reason] += 1
        elif isinstance(text, str):
            # A line has at least the bytes of its text, so few need the second look.
            if size > limits.longest and len(text.encode(errors="surrogatepass")) > limits.longest:
                left_out["too_long"] += 1
                continue
            yield number, row, text
        else:
            left_out["without_field" if text is MISSING else "empty" if text is None else "malformed"] += 1


def _rows(stream: Stream, limits: ReadLimits, left_out: Counter[str]) -> Iterator[tuple[int, dict[str, Any], int]]:
    """The line numbers, objects and bytes of the lines that hold an object; blank lines count for nothing."""
    parse = json.JSONDecoder().raw_decode  # on long texts a third faster than json.loads
    problems: list[str] | None = []  # None once there was a good line
    for number, line in enumerate(bounded_lines(stream, limits.longest + OTHER_FIELDS), 1):
        if line is None:
            left_out["too_long"] += 1
            continue
        try:
            text = line.decode(errors="surrogateescape").lstrip()
            row, end = parse(text)
            problem = "" if type(row) is dict else f"a JSON {type(row).__name__}, no object"
            if text[end:].strip():
                problem = "more after the object"
        except (ValueError, RecursionError) as error:
            if line.isspace():
                continue
            problem = str(error)
        if not problem:
            problems = None
            yield number, row, len(line)
            continue
        left_out["malformed"] += 1
        if problems is not None:
            problems.append(f"line {number}: {problem}")
            if len(problems) == PATIENCE:
                raise UserError(
                    f"{stream.name} does not look like JSON lines: its first {PATIENCE} lines are malformed "
                    f"({problems[0]})",
                    "give the source the reader that its files need, or convert them to an object a line",
                )


def _no_field(stream: Stream, number: int, path: str, row: dict[str, Any]) -> UserError:
    names = [
        name
        for key, value in row.items()
        for name in ([f"{key}.{inner}" for inner in value] if isinstance(value, dict) and value else [key])
    ]
    shown = ", ".join(names[:30]) + (", …" if len(names) > 30 else "")
    return UserError(
        f"{stream.name}, line {number}, has no field {path!r}; it has: {shown or 'none'}",
        "set the source's `text` to the field with the text, with dots into nested ones",
    )
