"""FOCUS: neighbours in a space of fastText vectors trained on the target text, token by token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from clp_transfer.clp.methods.auxiliary import INSTALL, Vectors, transfer
from clp_transfer.clp.methods.problem import Problem, Solution
from clp_transfer.clp.methods.weighting import Weighting
from clp_transfer.clp.vocabulary.keys import Key
from clp_transfer.errors import UserError

# The settings of the original: rarer tokens have no vector, ten words that are not there for each that is.
MIN_COUNT = 10
NEGATIVE = 10
# Rows for the hashed character n-grams. fastText's two million are for words; tokens have far fewer n-grams.
BUCKETS = 200_000
# gensim cuts what is longer off.
LONGEST = 10_000


def solve(problem: Problem) -> Solution:
    """E_t = Σ_o w_to E_o with w_t = sparsemax_o cos(a_t, a_o), over all overlapping tokens o with a vector.

    Dobler & de Melo 2023, section 3. The vectors a are trained by fastText (CBOW, negative sampling) on the target
    text cut into target tokens: `problem.text()` must yield each document as its tokens' keys. Tokens that occur
    less than ten times have no vector: they are drawn from N(μ, diag σ²) and counted. One thread, so that the same
    seed gives the same rows. Options: `focus_dimension`, `focus_epochs`. Raises UserError where there is no text,
    where it is too short, or where gensim is not installed.
    """
    if problem.text is None:
        raise UserError("method=focus trains vectors on target text, but none is given", "give it a text")
    vectors = _train(problem)
    known, wanted = (_lookup(vectors, side.keys, problem) for side in (problem.known, problem.wanted))
    if not len(known.found):
        raise UserError(
            f"method=focus: no overlapping token occurs {MIN_COUNT} times in the target text",
            "give it more text, or choose another method",
        )
    return transfer(problem, known, wanted, Weighting("sparsemax", temperature=1.0))


def written(key: Key) -> str:
    """The key as a word for fastText; different keys give different words."""
    return ("▁" if key.word_start else "") + key.spelled.decode("latin-1")


class _Sentences:
    """The text as lists of words; gensim reads it once for the vocabulary and once an epoch."""

    def __init__(self, problem: Problem) -> None:
        self.text = problem.text

    def __iter__(self) -> Iterator[list[str]]:
        assert self.text is not None
        documents: Iterable[list[Key]] = self.text()
        for document in documents:
            for start in range(0, len(document), LONGEST):
                yield [written(key) for key in document[start : start + LONGEST]]


def _train(problem: Problem) -> dict[str, np.ndarray]:
    """A vector for each word that occurs often enough; empty if there is none."""
    try:
        from gensim.models import FastText
    except ImportError:
        raise UserError("method=focus needs gensim, which is not installed", INSTALL) from None
    options = problem.options
    sentences = _Sentences(problem)
    model = FastText(
        vector_size=options.focus_dimension,
        min_count=MIN_COUNT,
        negative=NEGATIVE,
        sg=0,
        bucket=BUCKETS,
        workers=1,
        seed=int(torch.randint(2**31, (1,), generator=problem.generator)),
    )
    model.build_vocab(sentences)
    if not model.wv.key_to_index:
        return {}
    model.train(sentences, total_examples=model.corpus_count, epochs=options.focus_epochs)
    return {word: model.wv.vectors[row] for word, row in model.wv.key_to_index.items()}


def _lookup(vectors: dict[str, np.ndarray], keys: list[Key], problem: Problem) -> Vectors:
    none = np.zeros(problem.options.focus_dimension, dtype=np.float32)
    rows = [vectors.get(written(key), none) for key in keys]
    return Vectors(torch.from_numpy(np.stack(rows))) if rows else Vectors(torch.zeros(0, len(none)))
