"""Where things lie in a finished data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataFolder:
    """Where things lie in a finished data folder."""

    root: Path

    def text(self, corpus: str, split: str) -> Path:
        """A folder of chunks (see `clp_transfer.prepare.chunks`): `id` and `text` of one split's documents."""
        return self.root / "corpora" / corpus / split

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
