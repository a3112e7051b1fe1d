"""Which models the demo shows, and what it says of those that cannot be opened."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clp_transfer.demo.models import Choice, of_experiment, open_models, parse
from clp_transfer.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def run(root: Path, name: str, bits: float | None) -> Path:
    """A finished run, as far as choosing a model looks at it."""
    folder = root / "runs" / name
    (folder / "model").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("")
    (folder / "summary.json").write_text(json.dumps({"final": {"bits_per_byte": bits}}))
    (folder / "manifest.json").write_text(json.dumps({"stage": "train", "key": name, "files": {}}))
    return folder / "model"


def test_an_experiments_source_scratch_and_best(tmp_path) -> None:
    source, scratch = run(tmp_path, "source", 1.0), run(tmp_path, "scratch-seed1", 2.4)
    run(tmp_path, "clp-seed1", 2.2)
    best = run(tmp_path, "ridge-seed2", 1.9)
    run(tmp_path, "fvt-seed1", None)
    (tmp_path / "runs/mean-seed1.partial").mkdir()
    assert of_experiment(tmp_path) == [Choice("source", source), Choice("scratch", scratch), Choice("ridge", best)]


def test_the_source_with_its_own_tokenizer_is_no_transferred_model(tmp_path) -> None:
    run(tmp_path, "own-seed1", 1.0)
    with pytest.raises(UserError, match="no trained model"):
        of_experiment(tmp_path)
    ridge = run(tmp_path, "ridge-seed1", 2.0)
    assert of_experiment(tmp_path) == [Choice("ridge", ridge)]


def test_of_a_sweep_alone_neither_scratch_nor_own_is_transferred(tmp_path) -> None:
    for name in ("scratch", "own"):
        run(tmp_path, f"{name}-seed1,optim.lr=0.001", 1.0)
    ridge = run(tmp_path, "ridge-seed1,optim.lr=0.001", 2.0)
    assert of_experiment(tmp_path) == [Choice("ridge,optim.lr=0.001", ridge)]


def test_what_is_not_there_is_left_out(tmp_path) -> None:
    ridge = run(tmp_path, "ridge-seed1", 2.0)
    assert of_experiment(tmp_path) == [Choice("ridge", ridge)]


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_no_experiment(tmp_path, name) -> None:
    (tmp_path / "empty/runs").mkdir(parents=True)
    with pytest.raises(UserError, match=name):
        of_experiment(tmp_path / name)


def test_names() -> None:
    assert parse("ours=out/model") == Choice("ours", Path("out/model"))
    assert parse("out/model") == Choice("model", Path("out/model"))
    for wrong in ("=x", "x=", ""):
        with pytest.raises(UserError):
            parse(wrong)
    with pytest.raises(UserError, match="two models are called a"):
        open_models([Choice("a", Path("x")), Choice("a", Path("y"))])


def test_one_that_cannot_be_opened_leaves_the_others(world, tmp_path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(world.source, broken)
    (broken / "model.safetensors").write_bytes(b"not weights")
    (tmp_path / "empty").mkdir()
    folders = {"tiny": world.source, "gone": tmp_path / "gone", "empty": tmp_path / "empty", "broken": broken}
    opened = {one.name: one for one in open_models([Choice(n, p) for n, p in folders.items()])}
    assert opened["tiny"].error == "" and opened["tiny"].model is not None
    assert "there is no folder" in opened["gone"].error
    for name in ("empty", "broken"):
        assert str(folders[name]) in opened[name].error and opened[name].model is None


def test_a_mistake_on_the_command_line_is_told_on_one_screen(tmp_path) -> None:
    command = [sys.executable, str(ROOT / "scripts/demo.py"), str(tmp_path / "gone")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "gone does not exist" in done.stderr and "What to do" in done.stderr and "Traceback" not in done.stderr
