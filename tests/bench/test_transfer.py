"""The transfer bench's own arithmetic and its refusal of unequal results; our command is a stand-in here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clp_transfer.bench import peers, transfer_7b, transfer_command, transfer_rows

# A langsfer of five lines; `FACTOR` makes it wrong.
LANGSFER = """
import numpy as np
class Initialisation:
    def __init__(self, *given): self.given = given
    def initialize(self, seed):
        _, source, _, target = self.given
        unit = target.embeddings_matrix.astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        weights = unit[len(source):] @ unit[:len(source)].T
        rows = FACTOR * (weights / weights.sum(axis=1, keepdims=True)) @ source
        return np.concatenate([source, rows.astype(np.float32)])
def clp_transfer(*given): return Initialisation(*given)
"""


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a stand-in: an environment whose interpreter is ours, with one made-up package."""
    monkeypatch.setenv(peers.VARIABLE, str(tmp_path / "peers"))

    def install(name: str, code: str) -> None:
        home = tmp_path / "peers" / name
        (home / "bin").mkdir(parents=True)
        (home / name).mkdir()
        (home / name / "high_level.py").write_text(code)
        script = home / "bin" / "python"
        script.write_text(f'#!/bin/sh\nPYTHONPATH={home} exec {sys.executable} "$@"\n')
        script.chmod(0o755)
        (home / peers.MARK).write_text(peers.contents(name))

    return install


def test_original_algorithm_is_a_weighted_mean_by_cosine() -> None:
    known, source = np.eye(2, dtype=np.float32), np.array([[1, 0, 0], [0, 4, 0]], dtype=np.float32)
    wanted = np.array([[3, 1]], dtype=np.float32)
    found = transfer_rows.original_rows(transfer_rows.original_similarities(wanted, known), source)
    np.testing.assert_allclose(found, [[0.75, 1.0, 0.0]], rtol=1e-6)


def test_results_that_differ_stop_the_bench() -> None:
    rows = np.ones((2, 3), dtype=np.float32)
    with pytest.raises(AssertionError, match="differ"):
        transfer_rows.agree(rows, rows + 1e-3, rows)
    with pytest.raises(AssertionError, match="differ"):
        transfer_rows.agree(rows * np.nan, rows, rows)


def test_langsfer_runs_in_its_own_environment(peer: Callable[[str, str], None]) -> None:
    peer("langsfer", LANGSFER.replace("FACTOR", "1"))
    row = transfer_rows.run(quick=True)[1]
    assert row.peer is not None and row.peer > 0 and row.note is None


def test_a_langsfer_with_other_rows_stops_the_bench(peer: Callable[[str, str], None]) -> None:
    peer("langsfer", LANGSFER.replace("FACTOR", "1.001"))
    with pytest.raises(AssertionError, match="differ"):
        transfer_rows.run(quick=True)


def test_a_langsfer_that_fails_says_why(peer: Callable[[str, str], None]) -> None:
    peer("langsfer", "raise ValueError('no such luck')")
    with pytest.raises(RuntimeError, match="no such luck"):
        transfer_rows.run(quick=True)


@pytest.mark.slow
@pytest.mark.skipif(peers.python("langsfer") is None, reason="python -m clp_transfer.bench.peers install langsfer")
def test_the_real_langsfer_agrees() -> None:
    assert transfer_rows.run(quick=True)[1].peer is not None


@pytest.mark.slow
@pytest.mark.skipif(peers.python("mergekit") is None, reason="python -m clp_transfer.bench.peers install mergekit")
def test_the_real_tokensurgeon_agrees() -> None:
    rows = transfer_command.omp_rows(transfer_command.QUICK_OMP)
    assert all(row.peer is not None for row in rows)


def test_tables_of_one_transfer_agree_and_others_stop_the_bench() -> None:
    draw = torch.Generator().manual_seed(1)
    source, new = torch.randn(5, 8, generator=draw), torch.randn(1000, 8, generator=draw)
    theirs = torch.cat([source[[3, 1]], new])
    ours = theirs.clone()
    ours[2:8] *= -1.0  # six rows in a thousand: a search that took another turn
    transfer_command.same_tables(ours, theirs, source)
    ours[2:20] *= 1.5
    with pytest.raises(AssertionError, match="98%"):
        transfer_command.same_tables(ours, theirs, source)
    ours = theirs.clone()
    ours[0] = source[2]
    with pytest.raises(AssertionError, match="copied"):
        transfer_command.same_tables(ours, theirs, source)
    with pytest.raises(AssertionError, match="shape"):
        transfer_command.same_tables(theirs[1:], theirs, source)


def test_commands_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(peers.VARIABLE, str(tmp_path))
    calls: list[tuple[str, ...]] = []

    def stand_in(source: Path, helper: Path, out: Path, *options: str) -> list[str | Path]:
        assert (helper / "config.json").is_file() and not out.exists()
        calls.append(options)
        return ["cp", "-r", source, out]

    monkeypatch.setattr(transfer_command, "clp_command", stand_in)
    time, memory, gpt2 = transfer_command.run(quick=True)
    assert calls == [("method=omp", "method.atoms=4"), (), ()]  # GPT-2: once to warm up
    assert (time.unit, memory.unit, gpt2.unit) == ("s", "MB", "s")
    assert time.peer is None and "install mergekit" in (time.note or "")
    assert gpt2.peer == transfer_command.GPT2_SECONDS and gpt2.holds
    copied, floor, linked, peak = transfer_7b.run(quick=True)
    assert (floor.peer_name, floor.bar, floor.ours) == (transfer_7b.FLOOR, None, copied.ours) and floor.peer
    assert linked.peer == copied.peer and calls[3:] == [(), (transfer_7b.LINKED,)]
    assert copied.peer_name == "cp -r" and copied.peer and copied.ratio == copied.peer / (copied.ours or 0)
    assert peak.peer == transfer_7b.MEMORY_LIMIT and peak.holds


def test_our_command_line_is_a_checkout_s(tmp_path: Path) -> None:
    python, script, *options = transfer_command.clp_command(tmp_path, tmp_path, tmp_path / "out", "method=omp")
    assert python == sys.executable and Path(script).name == "clp.py" and Path(script).is_file()
    assert options[-1] == "method=omp" and options[-2] == f"out={tmp_path / 'out'}"


def test_a_disk_without_room_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    rows = transfer_7b.run(quick=True)
    assert [(row.ours, row.holds) for row in rows] == [(None, None)] * 4
    assert all("skipped" in (row.note or "") for row in rows)


def test_seven_billion_is_what_the_name_says() -> None:
    assert 13.5e9 < transfer_7b.bytes_of(transfer_7b.Size().source()) < 14.5e9
