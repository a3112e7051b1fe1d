"""One screen for a mistake; a bug of ours keeps its traceback."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from clp_transfer.cli.screen import one_screen
from clp_transfer.errors import UserError


def test_a_users_mistake(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop, one_screen():
        raise UserError("a.txt is empty", "give it a line")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "\nError: a.txt is empty\n  What to do: give it a line\n"


def test_a_full_disk_names_the_file(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit), one_screen():
        raise OSError(errno.ENOSPC, "No space left on device", "/data/train.bin")
    shown = capsys.readouterr().err
    assert "/data/train.bin" in shown and "free some space" in shown


def test_a_full_disk_for_real(tmp_path) -> None:
    """/dev/full refuses every write as a full disk does."""
    with pytest.raises(SystemExit), one_screen(), Path("/dev/full").open("w") as file:
        file.write("x" * 100_000)


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), one_screen():
        _ = 1 / 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("writer", ["torch", "safetensors", "numpy"])
def test_a_full_disk_however_it_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture, writer: str) -> None:
    """torch and safetensors write with C++ and Rust, and do not raise OSError."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        with pytest.raises(SystemExit) as stop, one_screen():
            if writer == "torch":
                torch.save(torch.zeros(100_000), tmp_path / "x")
            elif writer == "safetensors":
                save_file({"x": torch.zeros(100_000)}, tmp_path / "x")
            else:
                np.save(tmp_path / "x.npy", np.zeros(100_000))
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
    assert stop.value.code == 2
    assert "free some space" in capsys.readouterr().err
