"""CLP in closed form against the original script's algorithm, and against langsfer where it is installed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clp_transfer.bench.rows import Row, compare, installed, interleaved, missing, seconds
from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.methods.clp import solve
from clp_transfer.clp.methods.problem import Problem

log = logging.getLogger(__name__)

Table = NDArray[np.float32]

TOLERANCE = 1e-5
ORIGINAL = "original script's algorithm"


@dataclass(frozen=True)
class Size:
    """Tokens that lack a source row, tokens that have one, widths of helper and source; tokens timed at the peer."""

    missing: int = 20_000
    overlap: int = 8_000
    helper: int = 768
    source: int = 2_048
    sample: int = 48
    repeats: int = 3

    def __str__(self) -> str:
        return f"{self.missing:,} missing x {self.overlap:,} overlapping, helper {self.helper}, source {self.source:,}"


QUICK = Size(missing=300, overlap=120, helper=16, source=32, sample=20, repeats=1)


def run(quick: bool) -> list[Row]:
    """Measure; raises AssertionError where the results differ by more than 1e-5 of the source rows' scale."""
    size = QUICK if quick else Size()
    problem = _problem(size)
    known, wanted, source = (t.numpy() for t in (problem.helper, problem.helper_missing, problem.source))
    sample = np.random.default_rng(2).choice(size.missing, size=size.sample, replace=False)
    agree(
        solve(problem).rows.numpy()[sample], original_rows(original_similarities(wanted, known)[sample], source), source
    )
    ours, whole, first = interleaved(
        [
            lambda: seconds(lambda: solve(problem)),
            lambda: _original_seconds(wanted, known, source, sample),
            lambda: seconds(lambda: original_similarities(wanted, known)),
        ],
        size.repeats,
    )
    sampled = (
        f"the peer's loop was timed on {size.sample} tokens and scaled; its similarities took {first:.3g} s in full"
    )
    name = f"CLP rows, {size}, diagnostics included"
    return [
        compare(name, "s", ours, whole, ORIGINAL, bar=150.0, note=sampled),
        _langsfer_row(name, ours, problem, size.repeats),
    ]


def _problem(size: Size) -> Problem:
    """Drawn tables with a common part, as trained ones have: without it the cosines would cancel."""
    draw = torch.Generator().manual_seed(1)

    def table(rows: int, width: int) -> torch.Tensor:
        return 0.02 * (torch.randn(rows, width, generator=draw) + torch.randn(width, generator=common))

    # The helper's tables share their common part: both come from a generator that starts anew.
    common = torch.Generator().manual_seed(5)
    helper = table(size.overlap + size.missing, size.helper)
    source = table(size.overlap, size.source)
    return Problem(
        source=source,
        source_all=source,
        helper=helper[: size.overlap],
        helper_missing=helper[size.overlap :],
        pieces=[],
        options=MethodConfig(),
        generator=draw,
    )


def original_similarities(wanted: Table, known: Table) -> Table:
    """The whole cosine matrix, [missing, overlap], as scikit-learn's `cosine_similarity` makes it."""

    def unit(rows: Table) -> Table:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return unit(wanted) @ unit(known).T


def original_rows(similarities: Table, source: Table) -> Table:
    """One `np.average` over all overlapping source rows for each missing token, weighted by cosine / Σ cosine."""
    return np.stack([np.average(source, axis=0, weights=row / row.sum()) for row in similarities])


def _original_seconds(wanted: Table, known: Table, source: Table, sample: NDArray[np.int64]) -> float:
    """Seconds for all tokens: the similarity matrix in full, the loop scaled up from the sampled tokens."""
    similarities: Table = np.empty((0, 0), dtype=np.float32)

    def fill() -> None:
        nonlocal similarities
        similarities = original_similarities(wanted, known)

    matrix = seconds(fill)
    rows = similarities[sample]
    return matrix + seconds(lambda: original_rows(rows, source)) * len(wanted) / len(sample)


def agree(ours: Table, theirs: Table, source: Table) -> None:
    """Assert that two results are equal to 1e-5 of the source rows' root mean square."""
    scale = float(np.sqrt(np.mean(np.square(source, dtype=np.float64))))
    worst = float(np.abs(ours - theirs).max()) / scale
    assert worst <= TOLERANCE, f"ours and the peer's rows differ by {worst:.2g} of the source's scale"


def _langsfer_row(name: str, ours: float, problem: Problem, repeats: int) -> Row:
    """The same row against langsfer's CLP, or a row that says why there is none."""

    def without(note: str) -> Row:
        return compare(name, "s", ours, None, "langsfer", bar=20.0, note=note)

    if not installed("langsfer"):
        return without(missing("langsfer"))
    try:
        peer = _Langsfer(problem)
    except ImportError as error:
        return without(f"langsfer is installed but cannot be imported beside our packages: {error}")
    source = problem.source.numpy()
    agree(solve(problem).rows.numpy(), peer.rows(), source)
    again, theirs = interleaved([lambda: seconds(lambda: solve(problem)), lambda: seconds(peer.rows)], repeats)
    return compare(name, "s", again, theirs, "langsfer", bar=20.0)


class _Vocabulary:
    """As much of a tokenizer, and of an embedding by token, as langsfer's initialisation asks for."""

    def __init__(self, tokens: range, table: Any = None) -> None:
        self.ids = {f"t{token}": index for index, token in enumerate(tokens)}
        self.names = list(self.ids)
        self.embeddings_matrix = table

    def __len__(self) -> int:
        return len(self.ids)

    def get_vocab(self) -> dict[str, int]:
        return self.ids

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        return [self.ids[token] for token in tokens]

    def convert_ids_to_tokens(self, index: int) -> str:
        return self.names[index]

    def get_vector_for_token(self, token: str) -> Any:
        return self.embeddings_matrix[self.ids[token]]


class _Langsfer:
    """langsfer's CLP on our tables: the first `overlap` target tokens are the source's tokens."""

    def __init__(self, problem: Problem) -> None:
        from langsfer.initialization import WeightedAverageEmbeddingsInitialization
        from langsfer.token_overlap import ExactMatchTokenOverlap

        self.overlap, total = len(problem.source), len(problem.source) + len(problem.helper_missing)
        helper = torch.cat([problem.helper, problem.helper_missing]).numpy()
        target = _Vocabulary(range(total), helper)
        self.initialisation = WeightedAverageEmbeddingsInitialization(
            source_tokenizer=_Vocabulary(range(self.overlap)),
            source_embeddings_matrix=problem.source.numpy(),
            target_tokenizer=target,
            target_auxiliary_embeddings=target,
            token_overlap_strategy=ExactMatchTokenOverlap(),
        )

    def rows(self) -> Table:
        """The missing tokens' rows, float32 [missing, d_s]."""
        return np.asarray(self.initialisation.initialize(seed=1))[self.overlap :].astype(np.float32)
