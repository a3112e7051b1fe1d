"""Readers: each turns one file of a wheel into documents, by the name that the config gives it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import IO

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document

Reader = Callable[[IO[bytes], Counter[str]], Iterator[Document]]


def wiktionary(file: IO[bytes], left_out: Counter[str]) -> Iterator[Document]:
    """Dictionary entries `word<tab>gloss | gloss | …`, a line each, as the text `word: gloss; gloss`.

    Lines without a tab are counted in `left_out` under `malformed`.
    """
    for line in file:
        word, tab, definition = line.rstrip(b"\r\n").decode(errors="surrogateescape").partition("\t")
        if not tab:
            left_out["malformed" if word.strip() else "empty"] += 1
            continue
        glosses = tuple(gloss for part in definition.split(" | ") if (gloss := part.strip()))
        yield Document(word, f"{word}: {'; '.join(glosses)}" if glosses else "", glosses)


def wikipedia_leads(file: IO[bytes], left_out: Counter[str]) -> Iterator[Document]:
    """Wikipedia's first paragraphs, a JSON object title -> {"extract": text, …}; the text is the extract.

    Entries without one are counted in `left_out` under `malformed`. Raises UserError for other JSON.
    """
    try:
        entries = json.loads(file.read().decode(errors="surrogateescape"))
    except json.JSONDecodeError as error:
        raise UserError(f"the file of Wikipedia leads is not valid JSON: {error}", "pin another version") from error
    if not isinstance(entries, dict):
        raise UserError(
            f"the file of Wikipedia leads holds a {type(entries).__name__}, an object title -> entry was expected",
            "name another member or reader in the data config",
        )
    for title, entry in entries.items():
        extract = entry.get("extract") if isinstance(entry, dict) else None
        if isinstance(extract, str):
            yield Document(title, extract.strip())
        else:
            left_out["malformed"] += 1


READERS: dict[str, Reader] = {"wiktionary": wiktionary, "wikipedia_leads": wikipedia_leads}


def find_reader(name: str) -> Reader:
    """The reader of that name; raises UserError that lists the known ones."""
    if name not in READERS:
        raise UserError(f"unknown reader {name!r}", f"use one of: {', '.join(READERS)}")
    return READERS[name]
