"""A dictionary of one entry a line, as the miniature's German wheel has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.job import SourceConfig
from clp_transfer.prepare.readers.lines import ReadLimits, bounded_lines
from clp_transfer.prepare.streams import Stream


def wiktionary(stream: Stream, config: SourceConfig, limits: ReadLimits, left_out: Counter[str]) -> Iterator[Document]:
    """Dictionary entries `word<tab>gloss | gloss | …`, a line each, as the text `word: gloss; gloss`.

    Lines without a tab are counted in `left_out` under `malformed`.
    """
    for line in bounded_lines(stream, limits.longest):
        if line is None:
            left_out["too_long"] += 1
            continue
        word, tab, definition = line.rstrip(b"\r\n").decode(errors="surrogateescape").partition("\t")
        if not tab:
            left_out["malformed" if word.strip() else "empty"] += 1
            continue
        glosses = tuple(gloss for part in definition.split(" | ") if (gloss := part.strip()))
        yield Document(word, f"{word}: {'; '.join(glosses)}" if glosses else "", glosses)
