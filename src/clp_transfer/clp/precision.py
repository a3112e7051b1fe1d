"""Where 16-bit products are faster than 32-bit ones."""

from __future__ import annotations

import torch


def fast_bfloat16_processor() -> bool:
    """Whether the processor has instructions for bfloat16 products; without them they are slower than float32's."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
