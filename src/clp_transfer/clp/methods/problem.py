"""The one interface of all transfer methods: what they are given and what they return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from clp_transfer.clp.job import MethodConfig


@dataclass(frozen=True)
class Problem:
    """Make one source-space row for each missing target token.

    `source`: float32 [overlap, d_s], the source's rows of the overlapping tokens; `source_all`: [V_s, d_s], its
    rows of all real tokens; `helper`: [overlap, d_h] and `helper_missing`: [missing, d_h], the helper's rows (both of
    width 0 for a method that needs no helper); `pieces`: for each missing token the source ids that spell its text;
    `generator` drives every random draw.
    """

    source: Tensor
    source_all: Tensor
    helper: Tensor
    helper_missing: Tensor
    pieces: list[list[int]]
    options: MethodConfig
    generator: torch.Generator


@dataclass(frozen=True)
class Solution:
    """`rows`: float32 [missing, d_s]; diagnostics for the report; warnings for the log and the report."""

    rows: Tensor
    diagnostics: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
