"""Tiny open models for the demo."""

from __future__ import annotations

import pytest
from tiny.threads import one_thread  # noqa: F401 (pytest finds it here)
from transformers import AutoModelForCausalLM, AutoTokenizer

from clp_transfer.demo.models import Opened


@pytest.fixture
def opened(world) -> Opened:
    """A tiny model whose text is drawn almost evenly, with a context of 64 tokens."""
    model = AutoModelForCausalLM.from_pretrained(world.source, local_files_only=True).eval()
    return Opened("tiny", model, AutoTokenizer.from_pretrained(world.source))
