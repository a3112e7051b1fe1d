"""Where the result goes: what is refused, what is replaced, and what a killed process leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny.families import quieten

import clp_transfer
from clp_transfer.clp.job import MethodConfig, TransferJob
from clp_transfer.clp.run import transfer
from clp_transfer.errors import UserError
from clp_transfer.manifest import is_complete

quieten()
ROOT = Path(__file__).resolve().parents[2]
EMBEDDING = "model.embed_tokens.weight"


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def job(world, out: Path, **changes) -> TransferJob:
    values = {"source": world.source, "helpers": [world.helper], "tokenizer": None, "method": MethodConfig("clp")}
    return TransferJob(**(values | {"out": out} | changes))


def says(error: pytest.ExceptionInfo[UserError], *parts: object) -> None:
    """The message has all of these, and a remedy."""
    for part in parts:
        assert str(part) in error.value.problem, (part, str(error.value))
    assert error.value.remedy


@pytest.fixture
def result(world) -> clp_transfer.TransferResult:
    return clp_transfer.transfer(world.source, world.helper)


def test_a_folder_that_cannot_be_written(world, tmp_path: Path, result, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere but below a file and in /proc; a read-only and a full disk are feigned."""
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file/out", tmp_path / "file/deeper/out", Path("/proc/out"), Path("/proc/deeper/out")):
        for write in (result.save, lambda out: transfer(job(world, out))):
            with pytest.raises(UserError) as error:
                write(out)
            says(error, f"{out} cannot be written")
            assert error.value.remedy == "choose another out="
    for number, reason in ((errno.EROFS, "Read-only file system"), (errno.ENOSPC, "is full")):
        for module in ("checkpoint.rewrite.Writer", "result.write_json"):

            def refuse(*_: object, number: int = number) -> None:
                raise OSError(number, os.strerror(number))

            with monkeypatch.context() as patch, pytest.raises(UserError) as error:
                patch.setattr(f"clp_transfer.clp.{module}", refuse)
                result.save(tmp_path / "out")
            says(error, reason, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if path.name != ".out.lock"] == ["file"]


def test_a_file_that_cannot_be_read(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not called one that cannot be written."""
    source = Path(shutil.copytree(world.source, tmp_path / "source"))
    real = os.open

    def refuse(path: Any, flags: int, *more: Any, **other: Any) -> int:
        if str(path) == str(source / "model.safetensors") and not flags & os.O_WRONLY:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, *more, **other)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read: Permission denied"):
        transfer(job(world, tmp_path / "out", source=source))


def test_a_target_that_exists(world, tmp_path: Path, result) -> None:
    """Is refused; `overwrite` takes the place of a model, and of nothing else that lies there."""
    out = result.save(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    writers = (result.save, lambda out, **more: transfer(job(world, out, **more)))
    for write in writers:
        with pytest.raises(UserError, match="exists") as error:
            write(out)
        says(error, out)
        assert "overwrite=true" in error.value.remedy
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("all of it")
    (tmp_path / "note").write_text("a file")
    for write in writers:
        for place, what in ((tmp_path / "thesis", "holds chapter.tex"), (tmp_path / "note", "is a file")):
            with pytest.raises(UserError, match="replaces nothing but a model's folder") as error:
                write(place, overwrite=True)
            says(error, place, what)
    assert (tmp_path / "thesis/chapter.tex").read_text() == "all of it"
    (tmp_path / "void").mkdir()
    for write in writers:
        for place in (out, tmp_path / "void"):
            (place / "config.json").write_text("{}")
            write(place, overwrite=True)
            assert (place / "config.json").read_bytes() == before["config.json"]
    names = {path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")}
    assert names == {"out", "thesis", "note", "void"}


def test_the_source_is_never_replaced(world, tmp_path: Path) -> None:
    """Nor the helper, a folder that holds them, or one inside."""
    source = Path(shutil.copytree(world.source, tmp_path / "models/source"))
    helper = Path(shutil.copytree(world.helper, tmp_path / "models/helper"))
    (tmp_path / "models/config.json").write_text("{}")
    (tmp_path / "link").symlink_to(source)
    result = clp_transfer.transfer(source, helper)
    for out in (source, helper, tmp_path / "models", source / "german", tmp_path / "link"):
        for write in (
            lambda out: result.save(out, overwrite=True),
            lambda out: transfer(job(world, out, source=source, helpers=[helper], overwrite=True)),
        ):
            with pytest.raises(UserError, match="which is read") as error:
                write(out)
            says(error, out)
    assert tensors(source).keys() == tensors(world.source).keys()


def test_replacing_leaves_no_moment_without_a_model(world, tmp_path: Path, result, monkeypatch) -> None:
    """After every single rename there is a whole model at `out`, the old one or the new one."""
    out, seen = result.save(tmp_path / "out"), []

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def rename(*arguments: Any) -> Any:
            done = real(*arguments)
            seen.append((out / "model.safetensors").is_file())
            return done

        return rename

    monkeypatch.setattr(Path, "rename", watched(Path.rename))
    monkeypatch.setattr(Path, "replace", watched(Path.replace))
    result.save(out, overwrite=True, pad_to_multiple_of=64)
    assert len(tensors(out)[EMBEDDING]) == 384
    assert all(seen)


KILLED = """
import json, os, signal, sys
from pathlib import Path
import clp_transfer
from clp_transfer.clp import result, run
from clp_transfer.clp.checkpoint import rewrite
from clp_transfer.clp.job import MethodConfig, TransferJob

source, helper, root = map(Path, sys.argv[1:])
clp_transfer.transfer(source, helper)  # imports, once for all children
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
job = lambda name: TransferJob(source, [helper], None, MethodConfig("clp"), root / name, overwrite=name == "old")
save = lambda name: clp_transfer.transfer(source, helper).save(root / name, overwrite=True)


def half(writer, entry, table):
    writer.write(memoryview(bytes(1000)))
    die()


def later(count):
    real, left = os.fsync, [count]

    def fsync(descriptor):
        left[0] -= 1
        die() if left[0] < 0 else real(descriptor)

    return fsync


for name, act, module, attribute, hook in (
    ("stage", lambda: run.transfer(job("stage")), rewrite, "_write_table", half),
    ("settings", lambda: run.transfer(job("settings")), os, "fsync", later(2)),
    ("finished", lambda: run.transfer(job("finished")), Path, "rename", die),
    ("saved", lambda: save("saved"), rewrite, "_write_table", half),
    ("old", lambda: run.transfer(job("old")), rewrite, "_write_table", half),
):
    child = os.fork()
    if child == 0:
        setattr(module, attribute, hook)
        act()
        os._exit(3)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (name, status)
"""


def test_killed_while_writing(world, tmp_path: Path) -> None:
    """kill -9 in the middle of a table, of a JSON file, and before the last rename: the same command then completes,
    with the bytes of a run that nobody disturbed and nothing left beside it.
    """
    root = tmp_path / "killed"
    root.mkdir()
    old = {"source": world.source, "helpers": [world.helper], "method": MethodConfig("mean")}
    transfer(job(world, root / "old", **old))
    before = (root / "old/model.safetensors").read_bytes()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    arguments = [sys.executable, "-c", KILLED, world.source, world.helper, root]
    subprocess.run(arguments, check=True, env=environment, capture_output=True)
    assert (root / "old/model.safetensors").read_bytes() == before  # what was to be replaced is still whole
    left = {path.name for path in root.iterdir() if not path.name.endswith(".lock")}
    assert left == {"old", *(f"{name}.partial" for name in ("stage", "settings", "finished", "saved", "old"))}
    assert any(path.suffix == ".tmp" for path in (root / "settings.partial").iterdir())
    assert is_complete(job(world, root / "finished").plan())  # renamed now, not made again
    for name in ("stage", "settings"):
        transfer(job(world, root / name))
    transfer(job(world, root / "old", overwrite=True))
    clp_transfer.transfer(world.source, world.helper).save(root / "saved")
    transfer(job(world, tmp_path / "clean"))
    clean = {path.name: path.read_bytes() for path in (tmp_path / "clean").iterdir()}
    timed = {"manifest.json", "transfer.json"}  # with dates and seconds
    for name in ("stage", "settings", "finished", "saved", "old"):
        made = {path.name: path.read_bytes() for path in (root / name).iterdir()}
        assert made.keys() | {"manifest.json"} == clean.keys()
        assert all(made[file] == clean[file] for file in made.keys() - timed), name
    assert {path.name for path in root.iterdir() if path.is_dir()} == {"stage", "settings", "finished", "saved", "old"}


# --- on the command line


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(ROOT / "clp.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def refused(done: subprocess.CompletedProcess[str], *parts: object) -> None:
    """One screen, exit 2, no traceback."""
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("\nError: ") and "Traceback" not in done.stdout + done.stderr
    for part in (*parts, "What to do: "):
        assert str(part) in done.stderr, done.stderr


def test_two_helpers_on_the_command_line(world, tmp_path: Path) -> None:
    """A list, an option and a word to explain."""
    second = Path(shutil.copytree(world.helper, tmp_path / "second"))
    arguments = [f"source={world.source}", f"helper=[{world.helper},{second}]", "method=clp", f"out={tmp_path / 'out'}"]
    done = run(tmp_path, *arguments, "explain=Straße", "transfer.pad_to_multiple_of=64")
    assert done.returncode == 0, done.stderr
    assert "'Straße' is " in done.stdout and "Traceback" not in done.stderr
    assert len(tensors(tmp_path / "out")[EMBEDDING]) == 384
    report = json.loads((tmp_path / "out/transfer.json").read_text())
    assert report["models"].keys() == {"source", "helper0", "helper1"}


def test_mistakes_on_the_command_line(world, tmp_path: Path) -> None:
    """Of an option's value, of a method's name, of a folder."""
    given = [f"source={world.source}", f"helper={world.helper}"]
    done = run(tmp_path, *given, "method=clp", "method.weighting=typo", f"out={tmp_path / 'out'}")
    refused(done, "method.weighting=typo makes no sense", "plain or softmax or sparsemax")
    done = run(tmp_path, *given, "method=magic", f"out={tmp_path / 'out'}")
    refused(done, "magic", "clp-topk")
    (tmp_path / "file").write_text("")
    done = run(tmp_path, *given, "method=clp", f"out={tmp_path / 'file/out'}")
    refused(done, f"{tmp_path / 'file/out'} cannot be written", "choose another out=")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]
