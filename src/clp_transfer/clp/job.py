"""What the transfer stage is asked to do, and what determines its result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clp_transfer.manifest import Plan, digest


@dataclass
class MethodConfig:
    """How the rows of tokens that the source lacks are made; an option counts where the method reads it.

    `top_k`, `temperature`: the neighbours of clp-topk and the sharpness of their softmax.
    `ridge`: the penalty of the fitted map, as a share of the features' mean variance.
    """

    name: str = "clp"
    top_k: int = 10
    temperature: float = 0.1
    ridge: float = 1.0

    def read_options(self) -> dict[str, Any]:
        """The name, and those options that make a difference to this method."""
        return {"name": self.name} | {option: getattr(self, option) for option in TRANSFERS.get(self.name, ())}


# The methods that make rows for the source's body, each with the options that it reads.
TRANSFERS: dict[str, tuple[str, ...]] = {
    "random": (),
    "mean": (),
    "clp": (),
    "clp-topk": ("top_k", "temperature"),
    "ridge": ("ridge",),
    "fvt": (),
}
# Methods that use the helper's rows; the others need only its tokenizer, and so do not depend on its training.
NEEDS_HELPER = frozenset({"clp", "clp-topk", "ridge"})


@dataclass
class TransferJob:
    """`source` and `helper` are model folders; `tokenizer` is the target's, which must be the helper's own."""

    source: Path
    helper: Path
    tokenizer: Path
    method: MethodConfig
    out: Path
    seed: int
    language: str

    def plan(self) -> Plan:
        """The method, the options that it reads, the seed, and the contents of the models it reads."""
        settings = {"method": self.method.read_options(), "seed": self.seed}
        inputs = {"source": digest(self.source), "tokenizer": digest(self.tokenizer)}
        if self.method.name in NEEDS_HELPER:
            inputs["helper"] = digest(self.helper)
        return Plan("clp", self.out, settings, inputs)
