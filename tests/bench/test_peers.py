"""A peer's environment is used only where it is whole and in the versions wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clp_transfer.bench import peers


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(peers.VARIABLE, str(tmp_path / "peers"))
    return tmp_path / "peers" / "langsfer"


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """No environment is filled: what would have been run, with its variables."""
    calls: list[dict[str, Any]] = []

    def run(command: list[Any], env: dict[str, str], check: bool) -> None:
        calls.append(
            {"command": [str(part) for part in command], "constraint": Path(env["PIP_CONSTRAINT"]).read_text()}
        )

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(peers.venv, "create", lambda folder, **_: link(folder))
    return calls


def link(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)


def test_installing_pins_the_peer_and_our_torch_and_happens_once(home: Path, pip: list[dict[str, Any]]) -> None:
    import torch

    assert peers.python("langsfer") is None
    peers.main(["install", "langsfer"])
    peers.main(["install", "langsfer"])
    assert len(pip) == 1 and "langsfer==0.1.0" in pip[0]["command"]
    assert pip[0]["constraint"] == f"torch=={torch.__version__.partition('+')[0]}\n"
    assert peers.python("langsfer") == home / "bin" / "python"


def test_an_unfinished_or_old_environment_is_made_anew(home: Path, pip: list[dict[str, Any]]) -> None:
    link(home)
    assert peers.python("langsfer") is None  # its installation was cut off
    (home / "left-over").write_text("")
    peers.install("langsfer")
    assert not (home / "left-over").exists()
    (home / peers.MARK).write_text("langsfer==0.0.1 with torch==1.0\n")
    assert peers.python("langsfer") is None


def test_a_missing_peer_says_how_to_get_it(home: Path) -> None:
    assert "python -m clp_transfer.bench.peers install langsfer" in peers.missing("langsfer")
    assert str(home) in peers.missing("langsfer")


def test_a_peer_sees_none_of_our_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    assert "PYTHONPATH" not in peers.environment() and peers.environment()["PATH"] == os.environ["PATH"]


def test_an_unknown_peer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        peers.main(["install", "langsfr"])
    assert "langsfr" in capsys.readouterr().err
