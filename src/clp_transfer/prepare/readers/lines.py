"""Lines of a stream with a bound on their length, so that one endless line costs no more memory than a long one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.job import SourceConfig
from clp_transfer.prepare.streams import BUFFER, Stream

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class ReadLimits:
    """What a reader may hold. `longest`: UTF-8 bytes of one document's text; longer ones are counted `too_long`."""

    longest: int


def bounded_lines(stream: Stream, longest: int) -> Iterator[bytes | None]:
    """The stream's lines with their line ends, or None in the place of one of more than `longest` bytes."""
    readline = stream.readline
    limit = longest + 1  # and its line end
    if stream.peek(3).startswith(BYTE_ORDER_MARK):
        stream.read(3)
    while line := readline(limit):
        if len(line) == limit and line[-1] != 10:
            del line  # what is held while the rest goes by
            while (rest := readline(BUFFER)) and rest[-1] != 10:
                pass
            yield None
        else:
            yield line


def lines(stream: Stream, config: SourceConfig, limits: ReadLimits, left_out: Counter[str]) -> Iterator[Document]:
    """Every line is a document, named `<stem>:<line number>`; blank lines are counted `empty`."""
    for number, line in enumerate(bounded_lines(stream, limits.longest), 1):
        if line is None:
            left_out["too_long"] += 1
        elif line.isspace():
            left_out["empty"] += 1
        else:
            yield Document(f"{stream.stem}:{number}", line.rstrip(b"\r\n").decode(errors="surrogateescape"))
