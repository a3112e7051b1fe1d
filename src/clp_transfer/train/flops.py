"""How much arithmetic a token costs, and which share of a device's peak is used (MFU)."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

# Dense bfloat16 tensor throughput in TFLOP/s by what the device calls itself (torch.cuda.get_device_name), from the
# vendor's data sheets, without sparsity; the first that matches. V100 and T4 have no bfloat16: theirs is float16.
PEAKS = {
    r"H100 PCIe": 756.0,
    r"H100 NVL": 835.0,
    r"GH200|H200|H100": 989.4,
    r"A100": 312.0,
    r"L40S": 362.05,
    r"RTX 4090(?! D| Laptop)": 165.2,
    r"A10G": 70.0,
    r"A10(?!\d)": 125.0,
    r"V100.*PCIE": 112.0,
    r"V100": 125.0,
    r"\bT4\b": 65.0,
}


def peak(device_name: str) -> float | None:
    """The device's peak in FLOP/s; None for one that is not in the table."""
    found = [value for pattern, value in PEAKS.items() if re.search(pattern, device_name)]
    return found[0] * 1e12 if found else None


def mfu(tokens_per_second: float, flops_per_token: float, world_size: int, device_name: str) -> float | None:
    """Model FLOPs utilisation: the share of `world_size` devices' peak that the model's own arithmetic is.

    `tokens_per_second` is that of all devices together. None where the device's peak is not known (CPUs).
    """
    available = peak(device_name)
    return None if available is None else tokens_per_second * flops_per_token / (world_size * available)


def parameters(model: Any) -> tuple[int, int]:
    """All parameters, and those outside the embedding tables; a tied table counts once."""
    total = sum(p.numel() for p in model.parameters())
    tables = {
        id(m.weight): m.weight.numel() for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m
    }
    return total, total - sum(tables.values())


def per_token(model: Any, length: int) -> int:
    """Training FLOPs a token: 6 · N + 12 · layers · width · length (PaLM, appendix B).

    N counts the numbers in all matrices that tokens are multiplied with, the head's included, tied or not; looking up
    a row of a table is free. The second term is attention's scores and sums, `width` all heads together. It counts the
    causal mask's hidden half too, as PaLM does, and recomputed activations not at all: MFU compares across trainers.
    Every expert of a mixture counts, used or not.
    """
    config = model.config.get_text_config()
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    head = model.get_output_embeddings()
    weights = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in tables]
    matrices = sum(p.numel() for p in weights)
    if head is not None and id(head.weight) in tables:
        matrices += head.weight.numel()
    width = config.num_attention_heads * (getattr(config, "head_dim", None) or 0) or config.hidden_size
    return 6 * matrices + 12 * config.num_hidden_layers * width * length
