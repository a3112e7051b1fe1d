"""Tiny open models for the demo."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from clp_transfer.demo.models import Opened


@pytest.fixture(autouse=True)
def one_thread():
    """Threads only get in each other's way on models this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def opened(world) -> Opened:
    """A tiny model whose text is drawn almost evenly, with a context of 64 tokens."""
    model = AutoModelForCausalLM.from_pretrained(world.source, local_files_only=True).eval()
    return Opened("tiny", model, AutoTokenizer.from_pretrained(world.source))
