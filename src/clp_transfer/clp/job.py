"""What the transfer stage is asked to do, and what determines its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

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
        """The method, its options, the seed, and the two models' contents."""
        settings = {"method": asdict(self.method), "seed": self.seed}
        inputs = {"source": digest(self.source), "tokenizer": digest(self.tokenizer)}
        if self.method.name in NEEDS_HELPER:
            inputs["helper"] = digest(self.helper)
        return Plan("clp", self.out, settings, inputs)
