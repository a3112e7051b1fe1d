"""What the evaluate stage is asked to do, and what determines its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from clp_transfer.clp.job import MethodConfig
from clp_transfer.manifest import Plan, digest


@dataclass
class EvaluateConfig:
    """How much is measured: held-out text in bytes, task documents, and the samples to write."""

    window: int = 128
    batch_size: int = 32
    max_bytes: int | None = None
    task_documents: int | None = None
    prompts: list[str] = field(default_factory=list)
    sample_tokens: int = 40
    threads: int | None = None
    step0_window: int = 256
    step0_bytes: int = 30_000


@dataclass
class EvaluateJob:
    """Measure one trained model. `task` is the labelled task's file, or null for none."""

    model: Path
    validation_pack: Path
    task: Path | None
    labels: list[str]
    config: EvaluateConfig
    out: Path
    seed: int

    def plan(self) -> Plan:
        """The settings and the contents of the model, the validation text and the task."""
        inputs = {
            "model": digest(self.model),
            "validation": digest(self.validation_pack.parent, f"{self.validation_pack.name}.*"),
        }
        if self.task is not None:
            inputs["task"] = digest(self.task.parent, self.task.name)
        measured = {k: v for k, v in asdict(self.config).items() if not k.startswith("step0_")}
        return Plan("evaluate", self.out, {**measured, "labels": self.labels, "seed": self.seed}, inputs)


@dataclass
class Step0Job:
    """Measure every method's initialisation of one source before any training.

    Beside them stands the source with its own tokenizer: `own_pack` is the same validation text in its ids. `text`:
    the training pack, for the methods that read some.
    """

    source: Path
    helpers: list[str | Path]
    tokenizer: Path
    methods: list[MethodConfig]
    pack: Path
    own_pack: Path
    config: EvaluateConfig
    out: Path
    seed: int
    text: Path | None = None

    def plan(self) -> Plan:
        """The methods and the contents of both models and of the validation text."""
        settings = {
            "methods": [m.read_options() for m in self.methods],
            "window": self.config.step0_window,
            "bytes": self.config.step0_bytes,
            "seed": self.seed,
        }
        inputs = {
            "source": digest(self.source),
            **{f"helper{i or ''}": digest(Path(helper)) for i, helper in enumerate(self.helpers)},
            "tokenizer": digest(self.tokenizer),
            "pack": digest(self.pack.parent, f"{self.pack.name}.*"),
            "own_pack": digest(self.own_pack.parent, f"{self.own_pack.name}.*"),
        }
        if self.text is not None:
            inputs["text"] = digest(self.text.parent, f"{self.text.name}.*")
        return Plan("step0", self.out, settings, inputs)
