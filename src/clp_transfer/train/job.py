"""What the train stage is asked to do, and what determines its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from clp_transfer.manifest import Plan, digest


@dataclass
class ArchitectureConfig:
    """A model built from nothing: any transformers `model_type` with its config's own field names.

    `of`: the hub id of the model whose shape this is, so that it can be planned with where the hub is out of reach.
    """

    model_type: str = "llama"
    fields: dict[str, float | int | bool | str] = field(default_factory=dict)
    of: str = ""


@dataclass
class BudgetConfig:
    """How many tokens, and in what portions; all in tokens except `micro_batch`, in sequences per rank.

    `steps` or `epochs`, where set, take the place of `tokens`. `document_mask`: a document's tokens do not attend to
    the documents before it in the same sequence (the paper's do).
    """

    tokens: int = 1_000_000
    steps: int | None = None
    epochs: float | None = None
    batch_tokens: int = 2048
    sequence_length: int = 128
    micro_batch: int = 16
    document_mask: bool = False


@dataclass
class OptimConfig:
    """AdamW with warm-up and a schedule; weight decay on matrices only, on embedding tables by `decay_embeddings`.

    `lr` is the peak rate; null takes the best of the experiment's `tuning` table for the arm. `schedule`: `cosine`,
    `linear`, `constant`, or `wsd` (constant, then linear decay over the last `decay_share` of the steps), down to
    `min_lr_ratio` of the peak. `rates`: factors on the rate of the groups `embeddings` (tables and head) and `body`.
    """

    lr: float | None = None
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    schedule: str = "cosine"
    warmup_share: float = 0.1
    decay_share: float = 0.2
    min_lr_ratio: float = 0.1
    decay_embeddings: bool = True
    rates: dict[str, float] = field(default_factory=dict)


@dataclass
class PhasesConfig:
    """Embedding tuning first, then everything (the study project's options; its formulas: docs/training.md).

    `share` of the tokens, from 0 to 1, is the first phase: with `freeze` only the embedding tables and the head learn
    in it, without it everything does at the phase's rates ("accelerated start"). `new_rows_only`: of the tables only
    the rows that the transfer made learn in it. `lr`: its peak rate; null: `optim.lr`. `warmup_share` of the phase, or
    of the run (`warmup_of`); the second phase warms up by `optim.warmup_share` in the same way. `schedule`: `cosine`
    (one in each phase), `mixed` (constant, then a decay), `constant`, `unified` (one warm-up and one decay over the
    run) or `plain` (the second phase's alone, over the run); `optim.schedule` is the shape of every decay but the first
    phase's cosine. `denominator`: that cosine decays over the `phase` or, more slowly, over the `run`. `cycles`: of
    each phase's cosine, 0.5 is one half wave. `batch_tokens`: another batch size in the first phase.
    """

    share: float = 0.0
    freeze: bool = True
    new_rows_only: bool = False
    lr: float | None = None
    warmup_share: float = 0.1
    warmup_of: str = "phase"
    schedule: str = "cosine"
    denominator: str = "phase"
    embedding_cycles: float = 0.5
    cycles: float = 0.5
    batch_tokens: int | None = None


@dataclass
class ValidationConfig:
    """When and on how much held-out text the loss is measured along the way: at step 0, then at `points` even steps.

    `tokens`: at these token counts instead. `every`: after every so many tokens instead.
    """

    points: int = 8
    tokens: list[int] = field(default_factory=list)
    every: int | None = None
    max_bytes: int | None = 120_000
    batch_size: int = 32


@dataclass
class DeepSpeedConfig:
    """ZeRO `stage` 0 to 3 through accelerate; null is plain single-process or DDP training."""

    stage: int | None = None
    overlap_comm: bool = True
    bucket_size: int = 50_000_000
    offload_optimizer: bool = False


@dataclass
class WandbConfig:
    """Weights & Biases: offline needs no account; `online` and `disabled` are one override away."""

    mode: str = "offline"
    project: str = "clp-transfer"
    entity: str | None = None
    init_timeout: float = 30.0


@dataclass
class TrainConfig:
    """How training runs on this machine.

    `precision`: `fp32`, `bf16` (autocast over float32 weights), `bf16_pure` (bfloat16 weights), `fp16` (GPU only);
    null: bf16 where the machine has instructions for it, as GPUs and the newest CPUs have, else fp32.
    `attention`: `auto` is the fastest exact one that the family has. `compile`: each block by torch.compile.
    `recompute`: activations again in the backward pass, for memory. Checkpoints: every `checkpoint_minutes`, or every
    `checkpoint_tokens`; the last `keep` stay, and those at multiples of `permanent_tokens`. `on_bad_loss`: a loss that
    is not finite, or `spike` times its running mean, stops the run or is skipped (`stop`, `skip`).
    """

    precision: str | None = None
    attention: str = "auto"
    compile: bool = False
    recompute: bool = False
    threads: int | None = None
    checkpoint_minutes: float = 1.0
    checkpoint_tokens: int | None = None
    keep: int = 1
    permanent_tokens: int | None = None
    on_bad_loss: str = "stop"
    spike: float | None = None
    log_seconds: float = 5.0
    fused_loss: bool = True

    @property
    def settled(self) -> str:
        """`precision` of a job whose null has become what the machine is good at (`precision.settled`)."""
        if self.precision is None:
            raise ValueError("train.precision is not settled yet")
        return self.precision


# What an option may be; refused where the config is read, so that nothing here asks again.
CHOICES: dict[str, tuple[object, ...]] = {
    "train.precision": ("fp32", "bf16", "bf16_pure", "fp16"),
    "train.attention": ("auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"),
    "train.on_bad_loss": ("stop", "skip"),
    "deepspeed.stage": (0, 1, 2, 3),
    "wandb.mode": ("offline", "online", "disabled"),
    "optim.schedule": ("cosine", "linear", "constant", "wsd"),
    "phases.schedule": ("cosine", "mixed", "constant", "unified", "plain"),
    "phases.denominator": ("phase", "run"),
    "phases.warmup_of": ("phase", "run"),
}
# Of how training runs, what changes the numbers, if only in their last bits.
# (`on_bad_loss` and `spike` do not: a run that met no bad loss is the same, one that stopped at one may go on.)
CHANGES_NUMBERS = ("precision", "threads", "fused_loss", "attention", "compile", "recompute")


@dataclass
class TrainJob:
    """One training run. `model` is the starting checkpoint; null builds `architecture` from nothing."""

    name: str
    group: str
    job_type: str
    out: Path
    model: Path | None
    architecture: ArchitectureConfig
    tokenizer: Path
    train_pack: Path
    validation_pack: Path
    budget: BudgetConfig
    optim: OptimConfig
    validation: ValidationConfig
    train: TrainConfig
    deepspeed: DeepSpeedConfig
    wandb: WandbConfig
    seed: int
    language: str
    base_model: str
    phases: PhasesConfig = field(default_factory=PhasesConfig)

    def plan(self) -> Plan:
        """Everything that changes the weights or the curve; not how often it logs or saves."""
        architecture = asdict(self.architecture)
        del architecture["of"]  # says nothing about the weights
        settings = {
            "architecture": architecture if self.model is None else None,
            "budget": asdict(self.budget),
            "optim": asdict(self.optim),
            "phases": asdict(self.phases) if self.phases.share else None,
            "validation": asdict(self.validation),
            **{name: getattr(self.train, name) for name in CHANGES_NUMBERS},
            "deepspeed": asdict(self.deepspeed),
            "seed": self.seed,
        }
        inputs = {
            "train": digest(self.train_pack.parent, f"{self.train_pack.name}.*"),
            "validation": digest(self.validation_pack.parent, f"{self.validation_pack.name}.*"),
        }
        inputs["tokenizer"] = digest(self.tokenizer)
        if self.model is not None:
            inputs["model"] = digest(self.model)
        return Plan("train", self.out, settings, inputs)


@dataclass(frozen=True)
class PlannedRun:
    """A kind of run: `times` models of one shape, each trained on `tokens` in sequences of `length`.

    `model`: a folder or hub id whose config.json gives the shape; None: `architecture`. `vocabulary`: entries of the
    tokenizer that it gets; None: the model's own. `batch_tokens` of a step; None: as many as the GPUs like.
    """

    name: str
    times: int
    tokens: int
    length: int
    model: str | None
    architecture: ArchitectureConfig
    vocabulary: int | None
    batch_tokens: int | None = None


def best_rate(table: dict[float, float]) -> float:
    """The peak rate with the lowest measured loss, from a table of rate to loss."""
    return min(table, key=lambda lr: table[lr])


@dataclass(frozen=True)
class RunFolder:
    """Where things lie in a finished run."""

    root: Path

    @property
    def model(self) -> Path:
        """The trained model: an ordinary `save_pretrained` folder with tokenizer and model card."""
        return self.root / "model"

    @property
    def metrics(self) -> Path:
        """JSON lines: `{"kind": "train"|"validation", "step", "tokens", …}`."""
        return self.root / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """JSON: parameters, tokens, FLOPs, seconds, final losses."""
        return self.root / "summary.json"
