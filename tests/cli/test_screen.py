"""One screen for a mistake; a bug of ours keeps its traceback."""

from __future__ import annotations

import errno
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
