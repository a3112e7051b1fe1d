"""WECHSEL: neighbours in a space of word vectors that a bilingual dictionary makes common to both languages."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from clp_transfer.clp.methods.auxiliary import Vectors, transfer
from clp_transfer.clp.methods.problem import Problem, Solution
from clp_transfer.clp.methods.procrustes import rotation
from clp_transfer.clp.methods.weighting import Weighting
from clp_transfer.clp.methods.words import load_dictionary, load_vectors, token_vectors
from clp_transfer.errors import UserError

NEAREST = 10


def solve(problem: Problem) -> Solution:
    """E_t = Σ_{o ∈ top-k} softmax_o(cos(u_t, u_o W) / τ) E_o, with k = `top_k` (10) and τ = `temperature`.

    Minixhofer et al. 2022, equations 2 to 4. u_t is the token's vector in the target language (`vectors`), u_o in the
    source language (`source_vectors`); W is the rotation that brings the source words of `dictionary` nearest to
    their target words. The original chooses among all source tokens and also replaces those that both vocabularies
    have; here the candidates are the overlapping tokens, whose text is known to be a token of both. A token without a
    vector is drawn from N(μ, diag σ²) and counted. Raises UserError for files that are missing, malformed or do not
    fit each other.
    """
    options = problem.options
    pairs = load_dictionary(options.dictionary)
    source = load_vectors("source_vectors", options.source_vectors)
    target = load_vectors("vectors", options.vectors)
    turn, used = _align(pairs, source, target, options.dictionary)
    known, wanted = token_vectors(problem.known.keys, source), token_vectors(problem.wanted.keys, target)
    if not len(known.found):
        raise UserError(
            f"method=wechsel: no overlapping token has a vector in source_vectors={options.source_vectors}",
            "give word vectors of the source model's language",
        )
    how = Weighting("softmax", options.temperature, top_k=NEAREST if options.top_k is None else options.top_k)
    solution = transfer(problem, Vectors(known.table @ turn), wanted, how)
    solution.diagnostics["dictionary_pairs_used"] = used
    return solution


def _align(pairs: list[tuple[str, str]], source: Any, target: Any, name: str | None) -> tuple[Tensor, int]:
    """The rotation from the source vectors to the target's, float32 [d, d], and the number of pairs it rests on."""
    if source.vector_size != target.vector_size:
        raise UserError(
            f"source_vectors have {source.vector_size} dimensions, vectors have {target.vector_size}",
            "give two files with the same number",
        )
    known = sorted(
        {
            (a, b)
            for source_word, target_word in pairs
            for a in _spellings(source_word)
            for b in _spellings(target_word)
            if a in source.key_to_index and b in target.key_to_index
        }
    )
    if not known:
        raise UserError(
            f"dictionary={name}: in none of its {len(pairs):,} pairs are both words in the word vectors",
            "check that each line is: word in source_vectors' language, tab, word in vectors' language",
        )
    x = torch.from_numpy(np.stack([source.get_vector(a) for a, _ in known])).double()
    y = torch.from_numpy(np.stack([target.get_vector(b) for _, b in known])).double()
    return rotation(x.T @ y).float(), len(known)


def _spellings(word: str) -> tuple[str, ...]:
    return word, word.lower(), word.title()
