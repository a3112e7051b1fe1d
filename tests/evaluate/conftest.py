"""Tiny models with nothing in common but their width, and random documents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny.threads import one_thread  # noqa: F401 (pytest finds it here)
from transformers import AutoModelForCausalLM, AutoTokenizer

LABELS = ["Musik", "Botanik", "Sport"]


@pytest.fixture(params=["source", "gpt2"])
def model(request, world):
    """A Llama and a GPT-2 with weights large enough for the predictions to differ from uniform."""
    found = AutoModelForCausalLM.from_pretrained(getattr(world, request.param))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter += 0.15 * torch.randn_like(parameter)
    return found


@pytest.fixture
def tokenizer(world):
    return AutoTokenizer.from_pretrained(world.source)


@pytest.fixture
def documents():
    """Five documents of 3 to 30 tokens, closed by token 0: ids and index."""
    draw = np.random.default_rng(4)
    lengths = [3, 30, 11, 1, 22]
    ids = [np.append(draw.integers(1, 300, size=n), 0) for n in lengths]
    index = [(end, 2 * n, n) for end, n in zip(np.cumsum([n + 1 for n in lengths]), lengths, strict=True)]
    return np.concatenate(ids).astype(np.uint16), np.array(index, dtype=np.int64)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A labelled task of 24 documents: 12 of label 0, 8 of label 1, 4 of label 2."""
    path = tmp_path / "domains.jsonl"
    texts = [f"Wort{i}: der Hund und das Haus {i * 7}" for i in range(24)]
    rows = [{"text": text, "label": 0 if i % 2 else 1 + (i % 6 == 0)} for i, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def labels() -> list[str]:
    return list(LABELS)
