"""Which encoder to use: the fastest that is installed, loads the tokenizer, and gives exactly its ids."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from clp_transfer.errors import UserError
from clp_transfer.prepare.encoders import Encoded, Encoder
from clp_transfer.prepare.encoders.fastokens_backend import FastokensEncoder
from clp_transfer.prepare.encoders.gigatoken_backend import GigatokenEncoder
from clp_transfer.prepare.encoders.hostile import hostile_texts
from clp_transfer.prepare.encoders.tokenizers_backend import NAME as EXACT
from clp_transfer.prepare.encoders.tokenizers_backend import TokenizersEncoder

log = logging.getLogger(__name__)

# The order of `auto`: fastokens is the faster of the two on text it has not met, and its memory stays flat.
FAST: dict[str, Callable[[Tokenizer], Encoder]] = {"fastokens": FastokensEncoder, "gigatoken": GigatokenEncoder}
WANTED = ("auto", EXACT, *FAST)
# Characters of the corpus's first documents that every fast encoder is checked on.
CHECKED = 300_000


class Unfit(Exception):
    """Why an encoder cannot be used."""


def choose(backend: Tokenizer, wanted: str, first_documents: Iterable[str]) -> Encoder:
    """The encoder `wanted` (`auto`, `tokenizers`, `fastokens`, `gigatoken`) for a tokenizer.

    A fast one is used only if its ids are those of `tokenizers` on the first documents and on `hostile_texts`, twice
    over: the second time its caches answer. `auto` warns of one that fails and takes the next. Raises UserError for
    a name that there is not, and where the one asked for by name is missing or fails.
    """
    if wanted not in WANTED:
        raise UserError(f"encoder={wanted} is not known", f"choose from {', '.join(WANTED)}")
    exact = TokenizersEncoder(backend)
    if wanted == EXACT:
        return exact
    missing = []
    with ThreadPoolExecutor(1) as thread:  # meanwhile the first fast one is loaded: both take their time
        expected = thread.submit(_expected, exact, backend, first_documents)
        for name in FAST if wanted == "auto" else (wanted,):
            try:
                return _checked(name, backend, expected)
            except ImportError as error:
                missing.append(name)
                if wanted != "auto":
                    raise UserError(
                        f"encoder={name} is not installed", f"pip install {name}, or encoder=auto"
                    ) from error
            except Unfit as error:
                if wanted != "auto":
                    raise UserError(f"encoder={name}: {error}", "use encoder=auto or encoder=tokenizers") from error
                log.warning("ENCODER %s IS NOT USED: %s", name, error)
    if len(missing) == len(FAST):
        log.warning("no fast encoder is installed; %s is ten times slower: pip install 'clp-transfer[fast]'", EXACT)
    return exact


def _expected(exact: Encoder, backend: Tokenizer, first_documents: Iterable[str]) -> tuple[list[str], Encoded]:
    """What every fast encoder is checked on, and the ids that it has to give."""
    added = [token.content for token in backend.get_added_tokens_decoder().values()]
    texts = [*_beginning(first_documents), *hostile_texts(added)]
    return texts, exact.encode(texts)


def _checked(name: str, backend: Tokenizer, expected: Future[tuple[list[str], Encoded]]) -> Encoder:
    """Load an encoder and compare its ids; raises ImportError, or Unfit with the reason."""
    try:
        encoder = FAST[name](backend)
        texts, ids = expected.result()
        problem = difference(encoder, ids, texts)
    except (ImportError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust code is no Exception
        raise Unfit(f"it cannot load this tokenizer or stops: {str(error).splitlines()[:1]}") from error
    if problem:
        raise Unfit(problem)
    return encoder


def difference(encoder: Encoder, expected: Encoded, texts: list[str]) -> str | None:
    """How an encoder's ids differ from those expected, in words; None where they are the same both times."""
    for _ in range(2):
        found = encoder.encode(texts)
        if all(map(np.array_equal, found, expected)):
            continue
        wrong = [text for text, own, right in zip(texts, _rows(*found), _rows(*expected), strict=True) if own != right]
        return f"its ids are not those of {EXACT} for {len(wrong)} of {len(texts)} texts, such as {wrong[0]!r:.200}"
    return None


def _rows(ids: NDArray[Any], lengths: NDArray[Any]) -> Iterator[list[int]]:
    return (row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1]))


def _beginning(documents: Iterable[str]) -> Iterator[str]:
    """The first documents, the last of them cut, up to `CHECKED` characters."""
    left = CHECKED
    for text in documents:
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return
