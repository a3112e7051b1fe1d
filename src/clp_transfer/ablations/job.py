"""What an ablation varies."""

from __future__ import annotations

from dataclasses import dataclass, field

# What a variant makes anew; everything before it is the base's. The order of the stages.
DATA, HELPER, INIT, TRAIN = OWN = ("data", "helper", "init", "train")


@dataclass
class AblationConfig:
    """One question and the variants of an experiment that answer it, each trained with every arm and every seed.

    `own`: the first stage that a variant makes anew, with its overrides: `data` (tokenizer, packs, and all that
    follows), `helper`, `init` or `train`. `variants` maps a label to Hydra overrides; one without any is the base
    itself, which all ablations of an experiment share. `axis` is what the labels say, for the picture.
    """

    name: str = ""
    question: str = ""
    axis: str = ""
    own: str = INIT
    arms: list[str] = field(default_factory=list)
    variants: dict[str, list[str]] = field(default_factory=dict)
