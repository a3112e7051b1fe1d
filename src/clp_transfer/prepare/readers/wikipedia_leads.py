"""Wikipedia's first paragraphs in one JSON object, as the miniature's English wheel has them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.job import SourceConfig
from clp_transfer.prepare.readers.lines import ReadLimits
from clp_transfer.prepare.streams import Stream


def wikipedia_leads(
    stream: Stream, config: SourceConfig, limits: ReadLimits, left_out: Counter[str]
) -> Iterator[Document]:
    """A JSON object title -> {"extract": text, …}, read as a whole; the text is the extract.

    Entries without one are counted in `left_out` under `malformed`. Raises UserError for other JSON.
    """
    try:
        entries = json.loads(stream.read().decode(errors="surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"the file of Wikipedia leads, {stream.name}, is not valid JSON: {error}",
            "name another version, member or reader in the data config",
        ) from error
    if not isinstance(entries, dict):
        raise UserError(
            f"the file of Wikipedia leads, {stream.name}, holds a {type(entries).__name__}, "
            "an object title -> entry was expected",
            "name another member or reader in the data config",
        )
    for title, entry in entries.items():
        extract = entry.get("extract") if isinstance(entry, dict) else None
        if isinstance(extract, str):
            yield Document(title, extract.strip())
        else:
            left_out["malformed"] += 1
