"""CLP's rows in closed form against the original script's algorithm and against langsfer: same tables, same result."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clp_transfer.bench import langsfer_side, peers
from clp_transfer.bench.rows import Row, compare, interleaved, seconds
from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.methods.clp import solve
from clp_transfer.clp.methods.problem import Problem, Side
from clp_transfer.files import read_json

Table = NDArray[np.floating]

TOLERANCE = 1e-5
ORIGINAL, LANGSFER = "original script's algorithm", "langsfer"
ORIGINAL_BAR, LANGSFER_BAR = 150.0, 20.0


@dataclass(frozen=True)
class Size:
    """Tokens that lack a source row, tokens that have one, widths of helper and source; tokens timed at the peer."""

    missing: int = 38_000
    overlap: int = 12_000
    helper: int = 1_600
    source: int = 4_096
    sample: int = 48
    repeats: int = 3
    langsfer_repeats: int = 2

    def __str__(self) -> str:
        return (
            f"{self.missing:,} missing x {self.overlap:,} overlapping, helper {self.helper:,}, source {self.source:,}"
        )


QUICK = Size(missing=300, overlap=120, helper=16, source=32, sample=20, repeats=1)


def run(quick: bool) -> list[Row]:
    """Measure; raises AssertionError where the results differ by more than 1e-5 of the source rows' scale."""
    size = QUICK if quick else Size()
    problem = make_problem(size)
    name = f"CLP rows, {size}, diagnostics included"
    return [_original_row(name, size, problem), _langsfer_row(name, size, problem)]


def _original_row(name: str, size: Size, problem: Problem) -> Row:
    """Ours against the original: its similarity matrix in full, its loop timed on a sample of tokens and scaled up."""
    known, wanted, source = problem.known.helper.numpy(), problem.wanted.helper.numpy(), problem.source.numpy()
    sample = np.random.default_rng(2).choice(size.missing, size=size.sample, replace=False)
    # In float64: over 12,000 tokens the original's own float32 sums are off by more than the tolerance.
    exact = (table.astype(np.float64) for table in (wanted[sample], known, source))
    expected = _original(*exact)
    agree(solve(problem).rows.numpy()[sample], expected, source)
    matrices: list[float] = []

    def theirs() -> float:
        found: list[Table] = []
        matrices.append(seconds(lambda: found.append(original_similarities(wanted, known)[sample])))
        return matrices[-1] + seconds(lambda: original_rows(found[0], source)) * size.missing / size.sample

    ours, original = interleaved([lambda: seconds(lambda: solve(problem)), theirs], size.repeats)
    note = (
        f"the original's loop was timed on {size.sample} tokens and scaled; "
        f"its similarities took {statistics.median(matrices):.3g} s in full"
    )
    return compare(name, "s", ours, original, ORIGINAL, bar=ORIGINAL_BAR, note=note)


def make_problem(size: Size) -> Problem:
    """Drawn tables with a common part, as trained ones have: without it the cosines would cancel."""
    draw = torch.Generator().manual_seed(1)

    def table(rows: int, width: int) -> Tensor:
        common = torch.randn(width, generator=draw)
        return torch.randn(rows, width, generator=draw).add_(common).mul_(0.02)

    source = table(size.overlap, size.source)
    helper = table(size.overlap + size.missing, size.helper)
    return Problem(
        known=_side(helper[: size.overlap]),
        wanted=_side(helper[size.overlap :]),
        source=source,
        source_ids=torch.arange(size.overlap),
        table=_Whole(source),
        options=MethodConfig(),
        generator=draw,
    )


def _side(helper: Tensor) -> Side:
    """Tokens of which CLP needs nothing but the helper's rows."""
    return Side(helper=helper, keys=[], segment=lambda: [[] for _ in range(len(helper))])


class _Whole:
    """A source table that holds no more than the overlapping tokens."""

    def __init__(self, table: Tensor) -> None:
        self.table = table

    @property
    def width(self) -> int:
        return self.table.shape[1]

    def rows(self, ids: Tensor) -> Tensor:
        return self.table[ids]

    def spread(self) -> tuple[Tensor, Tensor]:
        table = self.table.double()
        return table.mean(dim=0), table.std(dim=0)

    def moments(self) -> tuple[Tensor, Tensor]:
        return self.table.double().mean(dim=0), torch.cov(self.table.double().T, correction=0)


def original_similarities(wanted: Table, known: Table) -> Table:
    """The whole cosine matrix, [missing, overlap], as scikit-learn's `cosine_similarity` makes it."""

    def unit(rows: Table) -> Table:
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return unit(wanted) @ unit(known).T


def original_rows(similarities: Table, source: Table) -> Table:
    """One `np.average` over all overlapping source rows for each missing token, weighted by cosine / Σ cosine."""
    return np.stack([np.average(source, axis=0, weights=row / row.sum()) for row in similarities])


def _original(wanted: Table, known: Table, source: Table) -> Table:
    return original_rows(original_similarities(wanted, known), source)


def agree(ours: Table, theirs: Table, source: Table) -> None:
    """Assert that two results are equal to 1e-5 of the source rows' root mean square."""
    scale = float(np.sqrt(np.mean(np.square(source, dtype=np.float64))))
    worst = float(np.abs(ours - theirs).max()) / scale
    assert worst <= TOLERANCE, f"ours and the peer's rows differ by {worst:.2g} of the source's scale"


def _langsfer_row(name: str, size: Size, problem: Problem) -> Row:
    """Ours against langsfer's CLP, all rows compared; without the peer, a row that says why."""
    python = peers.python("langsfer")
    with tempfile.TemporaryDirectory() as folder:
        peer = _Langsfer(python, Path(folder), problem) if python else None
        calls = [lambda: seconds(lambda: solve(problem)), *([peer.seconds] if peer else [])]
        ours, *theirs = interleaved(calls, size.langsfer_repeats)
        if peer:
            agree(solve(problem).rows.numpy(), peer.rows(), problem.source.numpy())
    note = None if peer else peers.missing("langsfer")
    return compare(name, "s", ours, theirs[0] if theirs else None, LANGSFER, bar=LANGSFER_BAR, note=note)


class _Langsfer:
    """langsfer in its own environment; the tables go there and the rows come back as files."""

    def __init__(self, python: Path, folder: Path, problem: Problem) -> None:
        self.python, self.folder = python, folder
        np.save(folder / "helper.npy", torch.cat([problem.known.helper, problem.wanted.helper]).numpy())
        np.save(folder / "source.npy", problem.source.numpy())

    def seconds(self) -> float:
        """Wall time of one initialisation; reading, writing and imports are not in it."""
        command: list[str | Path] = [self.python, "-P", langsfer_side.__file__, self.folder]
        done = subprocess.run(
            command, env=peers.environment(), cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"langsfer failed ({done.returncode}):\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return float(read_json(self.folder / "seconds.json")["seconds"])

    def rows(self) -> Table:
        """The missing tokens' rows, float32 [missing, d_s]."""
        return np.load(self.folder / "rows.npy", mmap_mode="r")
