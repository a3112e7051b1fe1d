"""Local servers, and no waiting between attempts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from tiny.server import FileServer, HubServer, serving

from clp_transfer.prepare.sources import remote


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy on the way to the local servers, no pauses."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "BACKOFF", 0.0)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving(FileServer()) as one:
        yield one


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """The hub's emulation, asked instead of the hub."""
    with serving(HubServer()) as one:
        # Read from the environment as the library was imported.
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_ENDPOINT", one.address)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield one
