"""What the train stage is asked to do, and what determines its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from clp_transfer.manifest import Plan, digest


@dataclass
class ArchitectureConfig:
    """A model built from nothing: any transformers `model_type` with its config's own field names."""

    model_type: str = "llama"
    fields: dict[str, float | int | bool | str] = field(default_factory=dict)


@dataclass
class BudgetConfig:
    """How many tokens, and in what portions; all in tokens except `micro_batch`, in sequences per rank."""

    tokens: int = 1_000_000
    batch_tokens: int = 2048
    sequence_length: int = 128
    micro_batch: int = 16


@dataclass
class OptimConfig:
    """AdamW with warm-up and cosine decay; weight decay on matrices only.

    `lr` is the peak rate; null takes the best of the experiment's `tuning` table for the arm.
    """

    lr: float | None = None
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    warmup_share: float = 0.1
    min_lr_ratio: float = 0.1


@dataclass
class ValidationConfig:
    """When and on how much held-out text the loss is measured along the way: at step 0, then evenly."""

    points: int = 8
    max_bytes: int | None = 120_000
    batch_size: int = 32


@dataclass
class DeepSpeedConfig:
    """ZeRO `stage` 0 to 3 through accelerate; null is plain single-process or DDP training."""

    stage: int | None = None
    overlap_comm: bool = True
    bucket_size: int = 500_000_000
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
    """How training runs on this machine."""

    precision: str = "bf16"
    threads: int | None = None
    checkpoint_minutes: float = 1.0
    log_seconds: float = 5.0
    fused_loss: bool = True


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

    def plan(self) -> Plan:
        """Everything that changes the weights or the curve; not how often it logs or saves."""
        settings = {
            "architecture": asdict(self.architecture) if self.model is None else None,
            "budget": asdict(self.budget),
            "optim": asdict(self.optim),
            "validation": asdict(self.validation),
            "precision": self.train.precision,
            "threads": self.train.threads,
            "fused_loss": self.train.fused_loss,
            "deepspeed": asdict(self.deepspeed),
            "seed": self.seed,
        }
        inputs = {
            "train": digest(self.train_pack.parent, f"{self.train_pack.name}.*"),
            "validation": digest(self.validation_pack.parent, f"{self.validation_pack.name}.*"),
        }
        if self.model is None:
            inputs["tokenizer"] = digest(self.tokenizer)
        else:
            inputs["model"] = digest(self.model)
        return Plan("train", self.out, settings, inputs)


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
