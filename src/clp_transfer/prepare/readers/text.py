"""Plain text in which a blank line ends a document: the layout of the first OSCAR's `de_part_N.txt.gz`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.job import SourceConfig
from clp_transfer.prepare.readers.lines import ReadLimits, bounded_lines
from clp_transfer.prepare.streams import Stream


def text(stream: Stream, config: SourceConfig, limits: ReadLimits, left_out: Counter[str]) -> Iterator[Document]:
    """Documents of lines joined by a line feed, named `<stem>:<number>`; those left out are numbered too."""
    for number, content in enumerate(_paragraphs(stream, limits.longest), 1):
        if content is None:
            left_out["too_long"] += 1
        else:
            yield Document(f"{stream.stem}:{number}", content.decode(errors="surrogateescape"))


def _paragraphs(stream: Stream, longest: int) -> Iterator[bytes | None]:
    """The bytes between blank lines, or None in the place of more than `longest` of them."""
    held: list[bytes] = []
    size = 0  # with a line feed after each line
    for line in bounded_lines(stream, longest):
        if line is not None and line.isspace():
            if size:
                yield b"\n".join(held) if size <= longest + 1 else None
            held, size = [], 0
            continue
        size += longest + 2 if line is None else len(line := line.rstrip(b"\r\n")) + 1
        if line is None or size > longest + 1:
            held.clear()
        else:
            held.append(line)
    if size:
        yield b"\n".join(held) if size <= longest + 1 else None
