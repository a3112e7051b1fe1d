"""Files without a table are placed while the tables are being made, and are read once for copy and hash together."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from clp_transfer import hashes
from clp_transfer.clp import run
from clp_transfer.clp.checkpoint import ranges, untouched
from clp_transfer.clp.checkpoint.layout import Layout, find_layout
from clp_transfer.clp.checkpoint.rewrite import write
from clp_transfer.clp.checkpoint.untouched import Untouched
from clp_transfer.clp.checkpoint.weights import Weights
from clp_transfer.clp.job import MethodConfig, TransferJob
from clp_transfer.errors import UserError


@pytest.fixture
def sharded(make_family, monkeypatch: pytest.MonkeyPatch) -> tuple[Weights, Layout, set[str]]:
    """An untied Llama in many files, and which of them hold no table. Nothing is cloned."""
    monkeypatch.setattr(ranges, "_clone", lambda source, out: False)
    made = make_family("llama-untied", save={"max_shard_size": "8KB"})
    weights = Weights(made.folder)
    layout = find_layout(made.folder, weights)
    holding = {weights.entries[name].file.name for name in (layout.input, layout.head)}
    plain = set(weights.contents) - holding
    assert plain and holding
    return weights, layout, plain


def tables(weights: Weights, layout: Layout) -> dict[str, torch.Tensor]:
    return {name: torch.ones(71, weights.entries[name].shape[1]) for name in (layout.input, layout.head) if name}


def test_they_are_there_before_any_table_is(sharded, tmp_path: Path) -> None:
    weights, layout, plain = sharded
    with Untouched(weights, layout, tmp_path, "never") as early:
        sizes = early.sizes()
    assert {path.name for path in tmp_path.iterdir()} == plain == sizes.keys()
    for name, (how, size) in sizes.items():
        assert how == "copied"
        assert (tmp_path / name).read_bytes() == (weights.folder / name).read_bytes()
        assert size == (tmp_path / name).stat().st_size


def test_begun_early_or_not_the_model_is_the_same(sharded, tmp_path: Path) -> None:
    weights, layout, _ = sharded
    found = []
    for early in (False, True):
        out = tmp_path / str(early)
        out.mkdir()
        begun = Untouched(weights, layout, out, "never") if early else None
        counts = write(weights, layout, tables(weights, layout), out, untouched=begun)
        found.append((counts, {path.name: path.read_bytes() for path in out.iterdir()}))
    assert found[0] == found[1]


def test_each_is_read_once_for_its_copy_and_both_hashes(sharded, tmp_path: Path, monkeypatch) -> None:
    weights, layout, plain = sharded
    read: list[str] = []
    real = hashes.sha256_file
    monkeypatch.setattr(hashes, "sha256_file", lambda path: (read.append(path.name), real(path))[1])
    with Untouched(weights, layout, tmp_path, "never") as early:
        early.sizes()
    for name in plain:
        both = [weights.folder / name, tmp_path / name]
        right = hashlib.sha256(both[0].read_bytes()).hexdigest()
        assert list(hashes.hash_files(both).values()) == [right, right]
    assert read == []


def test_nothing_is_placed_of_a_pickled_model(make_family, tmp_path: Path) -> None:
    made = make_family("gpt2")
    weights = Weights(made.folder)
    weights.pickled = True
    with Untouched(weights, find_layout(made.folder, weights), tmp_path, "never") as early:
        assert early.sizes() == {} and not list(tmp_path.iterdir())


def test_a_failure_stops_it_within_the_file_at_hand(sharded, tmp_path: Path, monkeypatch) -> None:
    weights, layout, plain = sharded
    begun, go_on, asked = threading.Event(), threading.Event(), []
    real = untouched.place

    def slow(*arguments: Any) -> str:
        *others, stopped = arguments

        def question() -> bool:  # before each part of a file
            asked.append(1)
            begun.set()
            assert go_on.wait(10)
            return bool(stopped())

        return real(*others, question)

    monkeypatch.setattr(untouched, "place", slow)
    monkeypatch.setattr(ranges, "PART", 1000)
    early = Untouched(weights, layout, tmp_path, "never")
    assert begun.wait(10)
    threading.Timer(0.2, go_on.set).start()
    with pytest.raises(RuntimeError), early:
        raise RuntimeError("the method failed")
    assert len(asked) == 1
    # Nobody waits for the hashes of what was not copied.
    assert len(hashes.hash_files([weights.folder / name for name in plain])) == len(plain)


def test_what_an_earlier_run_left_may_go_while_space_is_counted(sharded, tmp_path: Path, monkeypatch) -> None:
    weights, layout, plain = sharded
    held, real, removed = threading.Event(), Path.stat, set()

    def placed_later(path: Path, to: Path, *_: Any) -> str:
        assert held.wait(10)
        shutil.copyfile(path, to)
        return "copied"

    def asked(path: Path, **more: Any) -> Any:
        found = real(path, **more)
        if path.parent == tmp_path and path.name in plain - removed:  # the thread that places it comes between
            removed.add(path.name)
            path.unlink()
        return found

    monkeypatch.setattr(untouched, "place", placed_later)
    with Untouched(weights, layout, tmp_path, "never") as early:
        for name in plain:
            shutil.copyfile(weights.folder / name, tmp_path / name)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", asked)
            assert early.outstanding() == 0 and removed == plain
        assert early.outstanding() == sum((weights.folder / name).stat().st_size for name in plain)
        held.set()


def test_what_placing_raises_reaches_the_writer(sharded, tmp_path: Path, monkeypatch) -> None:
    weights, layout, _ = sharded

    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(untouched, "place", full)
    with pytest.raises(UserError, match="is full"):
        write(weights, layout, tables(weights, layout), tmp_path)


def test_the_stage_begins_early_and_leaves_nothing_behind_where_it_fails(world, tmp_path: Path, monkeypatch) -> None:
    """The source in two files; when the rows begin to be made, the one without a table is on its way."""
    source = _in_two_files(world.source, tmp_path / "source")
    job = TransferJob(source, [world.helper], None, MethodConfig("clp"), tmp_path / "out")
    early: list[list[str]] = []
    real = run.transfer_opened

    def watched(*arguments: Any, **more: Any) -> Any:
        early.append(made[-1].files)
        return real(*arguments, **more)

    made: list[Untouched] = []
    monkeypatch.setattr(run, "Untouched", lambda *arguments: (made.append(Untouched(*arguments)), made[-1])[1])
    monkeypatch.setattr(run, "transfer_opened", watched)
    report = run.transfer(job)
    assert early == [["rest.safetensors"]]
    assert report["bytes"]["copied"] + report["bytes"]["cloned"] == (job.out / "rest.safetensors").stat().st_size

    def fails(*_: Any, **__: Any) -> Any:
        raise UserError("no rows", "none")

    monkeypatch.setattr(run, "transfer_opened", fails)
    with pytest.raises(UserError, match="no rows"):
        run.transfer(replace(job, out=tmp_path / "other"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("other")] == []


def _in_two_files(folder: Path, out: Path) -> Path:
    """A model of one file as a sharded one: the input table, and the rest."""
    shutil.copytree(folder, out)
    tensors = load_file(out / "model.safetensors")
    (out / "model.safetensors").unlink()
    weights = Weights(folder)
    table = find_layout(folder, weights).input
    parts = {"table.safetensors": {table: tensors.pop(table)}, "rest.safetensors": tensors}
    for name, part in parts.items():
        save_file(part, out / name, metadata={"format": "pt"})
    weight_map = {key: name for name, part in parts.items() for key in part}
    (out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return out
