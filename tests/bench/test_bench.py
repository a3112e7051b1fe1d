"""Every part of the bench on tiny sizes: the figures' shape, a missing peer that is said, the table."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from clp_transfer.bench import memory, peers, train_gpu
from clp_transfer.bench.__main__ import main
from clp_transfer.bench.rows import compare, interleaved, table, write

FIELDS = {"name", "unit", "ours", "peer", "peer_name", "ratio", "bar", "holds"}
ROWS = {"transfer": 9, "prepare": 10, "train": 2, "train_gpu": 9, "evaluate": 6}


def quick(part: str, out: Path) -> list[dict]:
    main([part, "--quick", "--out", str(out)])
    return json.loads((out / f"{part}.json").read_text())


def check_shape(rows: list[dict], part: str) -> None:
    assert len(rows) == ROWS[part]
    for row in rows:
        assert set(row) - {"note"} == FIELDS
        assert row["ours"] > 0 and math.isfinite(row["ours"])
        assert row["bar"] is None and row["holds"] is None  # a quick run proves nothing


@pytest.mark.slow
@pytest.mark.parametrize("part", ["prepare", "train", "evaluate"])
def test_quick_part_measures_both_sides(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = quick(part, tmp_path)
    check_shape(rows, part)
    for row in rows:
        faster = row["ours"] / row["peer"] if row["unit"] in ("MB/s", "tokens/s") else row["peer"] / row["ours"]
        assert row["ratio"] == pytest.approx(faster)
    printed = capsys.readouterr().out
    assert part in printed and rows[0]["peer_name"] in printed and "times better" in printed


@pytest.mark.slow
def test_quick_transfer_measures_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(peers.VARIABLE, str(tmp_path))  # no peer: they have tests of their own
    rows = quick("transfer", tmp_path)
    check_shape(rows, "transfer")
    with_peer = [row["peer_name"] for row in rows if row["peer"] is not None]
    assert with_peer == ["original script's algorithm", "limit", "cp -r", "cp -r; sync; sha256sum", "cp -r", "limit"]
    assert all("peers install" in row["note"] for row in rows if row["peer"] is None)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "package"), [("prepare", "datasets"), ("evaluate", "lm_eval")])
def test_missing_peer_is_said(
    part: str, package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    rows = quick(part, tmp_path)
    check_shape(rows, part)
    with_peer = [row for row in rows if row["peer_name"] not in ("limit", "bare encoder")]
    assert with_peer and all(row["peer"] is None and row["ratio"] is None for row in with_peer)
    assert f"{package} is not installed" in rows[0]["note"]
    assert f"{package} is not installed" in capsys.readouterr().out


@pytest.mark.slow
def test_the_gpu_ladder_climbs_on_tiny_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a CPU every rung that needs no compiler runs, and there is no MFU, which is said."""
    rows = quick("train_gpu", tmp_path)
    assert len(rows) == ROWS["train_gpu"]
    rungs = [row for row in rows if row["unit"] == "tokens/s"]
    assert len(rungs) == 7 and all(row["ours"] > 0 for row in rungs)
    assert rungs[0]["ratio"] == 1.0 and rungs[1]["ratio"] == pytest.approx(rungs[1]["ours"] / rungs[0]["ours"])
    assert all(row["ours"] is None and "peak" in row["note"] for row in rows if row["unit"] == "MFU")
    assert "tiny BLOOM" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which would be measured")
def test_without_a_gpu_the_ladder_says_that_it_did_not_run() -> None:
    (row,) = train_gpu.run(quick=False)
    assert row.ours is None and row.holds is None and "needs a GPU" in str(row.note)


def test_a_rung_that_cannot_run_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(function: str, arguments: dict) -> dict:
        raise RuntimeError("one failed (1):\nTraceback\ntorch.OutOfMemoryError: CUDA out of memory")

    monkeypatch.setattr(train_gpu, "run_alone", fail)
    rows = train_gpu.run(quick=True)
    assert rows[0].ours is None and "could not run: torch.OutOfMemoryError" in str(rows[0].note)


def test_the_shapes_are_those_of_the_released_models() -> None:
    """1.56B (50,304 entries in place of 50,257) and 1.72B parameters."""
    models = [train_gpu.build(one, "meta") for one in train_gpu.SHAPES]
    counts = [sum(p.numel() for p in model.parameters()) for model in models]
    assert counts == [1_557_611_200 + 47 * 1600, 1_722_408_960]


def test_ratio_and_bar() -> None:
    slower = compare("a", "s", 2.0, 8.0, "p", bar=5.0)
    assert slower.ratio == 4.0 and slower.holds is False
    faster = compare("a", "MB/s", 8.0, 2.0, "p", bar=4.0, more_is_better=True)
    assert faster.ratio == 4.0 and faster.holds is True
    unknown = compare("a", "s", 2.0, None, "p", bar=5.0, note="why")
    assert unknown.ratio is None and unknown.holds is None


def test_table_is_aligned_and_json_is_whole(tmp_path: Path) -> None:
    rows = [
        compare("a long name " * 8, "s", 0.5, 1234.5, "peer", bar=2.0),
        compare("b", "s", 2.0, None, "p", note="no p"),
    ]
    lines = table("part", rows).splitlines()
    column = lines[0].index("ours") + len("ours")
    assert [lines[i][:column].endswith(end) for i, end in ((2, "0.5"), (4, " 2"))] == [True, True]
    assert "holds" in lines[2] and lines[-1] == "  note: no p"
    path = write(tmp_path / "new", "part", rows)
    assert [set(row) for row in json.loads(path.read_text())] == [FIELDS, FIELDS | {"note"}]
    assert [p.name for p in path.parent.iterdir()] == ["part.json"]


def test_interleaved_takes_turns_and_medians() -> None:
    seen: list[str] = []
    figures = iter([1.0, 10.0, 2.0, 20.0, 9.0, 90.0])

    def call(name: str) -> float:
        seen.append(name)
        return next(figures)

    assert interleaved([lambda: call("a"), lambda: call("b")], 3) == [2.0, 20.0]
    assert seen == ["a", "b"] * 3


def test_peak_memory_is_the_child_s_own() -> None:
    ballast = bytearray(300_000_000)
    found = memory.run_alone("json:loads", {"s": '{"value": 1}'})
    assert found["value"] == 1 and 0 < found["peak_bytes"] < len(ballast)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lets a peak begin again")
def test_peak_can_begin_again() -> None:
    assert memory.reset_peak()
    before = memory.peak_bytes()
    ballast = bytearray(200_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    assert memory.peak_bytes() - before > 150_000_000
    del ballast
    memory.reset_peak()
    assert memory.peak_bytes() - before < 100_000_000


def test_failing_child_says_why() -> None:
    with pytest.raises(RuntimeError, match="JSONDecodeError"):
        memory.run_alone("json:loads", {"s": "no JSON"})


def test_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["transfre"])
    said = capsys.readouterr().err
    assert "transfre" in said and "transfer_7b" in said


def test_one_file_of_the_transfer_part_can_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(peers.VARIABLE, "")  # the option sets it for the rest of the process
    main(["transfer_rows", "--quick", "--out", str(tmp_path), "--peers", str(tmp_path / "none")])
    rows = json.loads((tmp_path / "transfer_rows.json").read_text())
    assert [row["peer_name"] for row in rows] == ["original script's algorithm", "langsfer"]
    assert str(tmp_path / "none") in rows[1]["note"]
