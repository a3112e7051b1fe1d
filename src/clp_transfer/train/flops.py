"""How much arithmetic a token costs."""

from __future__ import annotations

from typing import Any


def parameters(model: Any) -> tuple[int, int]:
    """All parameters, and those outside the embedding tables; a tied table counts once."""
    total = sum(p.numel() for p in model.parameters())
    tables = {
        id(m.weight): m.weight.numel() for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m
    }
    return total, total - sum(tables.values())


def per_token(model: Any, length: int) -> int:
    """Training FLOPs a token: 6 · (body + head) + 12 · layers · width · length for attention's scores.

    The look-up of the input table is free; recomputation is not counted (PaLM, appendix B).
    """
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    matrices = parameters(model)[1] + (head.weight.numel() if head is not None else 0)
    return 6 * matrices + 12 * config.num_hidden_layers * config.hidden_size * length
