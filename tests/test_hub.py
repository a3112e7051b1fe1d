"""A hub that does not answer, and models that are not where they are said to be."""

from __future__ import annotations

import socket

import pytest

from clp_transfer.errors import UserError
from clp_transfer.evaluate.job import EvaluateConfig, EvaluateJob
from clp_transfer.hub import resolved


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, tmp_path):
    """The hub's address refuses connections, and nothing was fetched before."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    resolved.cache_clear()
    yield tmp_path / "cache"
    resolved.cache_clear()


def job(model, tmp_path, **config) -> EvaluateJob:
    return EvaluateJob(model, None, None, [], EvaluateConfig(**config), tmp_path / "out", 1)


def test_a_hub_that_does_not_answer(tmp_path) -> None:
    with pytest.raises(UserError, match="the hub model some/model, revision v2 is not on this machine") as error:
        job("some/model", tmp_path, revision="v2").plan()
    assert "hf download some/model" in error.value.remedy


def test_what_was_fetched_before_is_used(no_hub, tmp_path) -> None:
    refs = no_hub / "models--some--model/refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("1f3a\n")
    assert job("some/model", tmp_path).plan().inputs["model"] == "1f3a"


def test_what_is_no_folder_and_no_hub_id(tmp_path) -> None:
    with pytest.raises(UserError, match="there is no folder outputs/mini/runs/x/model, and it is no hub id"):
        job("outputs/mini/runs/x/model", tmp_path).plan()
