"""What an ablation varies."""

from __future__ import annotations

from dataclasses import dataclass, field

# The stages, in order, and what a variant that owns one makes anew; everything else is the base's.
DATA, SOURCE, HELPER, INIT, TRAIN = STAGES = ("data", "source", "helper", "init", "train")
MADE_ANEW = {
    DATA: (DATA, HELPER, INIT, TRAIN),  # the source is another language's
    SOURCE: (SOURCE, INIT, TRAIN),
    HELPER: (HELPER, INIT, TRAIN),
    INIT: (INIT, TRAIN),
    TRAIN: (TRAIN,),
}


@dataclass
class AblationConfig:
    """One question and the variants of an experiment that answer it, each trained with every arm and every seed.

    `own`: the first stage that a variant makes anew, with its overrides: `data` (tokenizer, packs, and all that
    follows), `source`, `helper`, `init` or `train`. `variants` maps a label to Hydra overrides; one without any is the
    base itself, which all ablations of an experiment share. `axis` is what the labels say, for the picture.
    """

    name: str = ""
    question: str = ""
    axis: str = ""
    own: str = INIT
    arms: list[str] = field(default_factory=list)
    variants: dict[str, list[str]] = field(default_factory=dict)
