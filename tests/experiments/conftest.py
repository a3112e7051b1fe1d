"""Small sources of every experiment's family and a small German helper, saved once for all tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tokenizers
from tiny.families import quieten, save_family
from transformers import AutoModelForCausalLM

# Source on the hub: family in tests/tiny/families.py, kind of vocabulary in tests/tiny/tokenizers.py, what else it has.
SOURCES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "openai-community/gpt2-xl": ("gpt2", "gpt2", {}),
    "openai-community/gpt2-large": ("gpt2", "gpt2", {"n_layer": 1}),
    "bigscience/bloom-1b7": ("bloom", "llama3", {}),  # BLOOM too splits by an expression of its own, then into bytes
    "bigscience/bloom-7b1": ("bloom", "llama3", {"n_layer": 1}),
    "EleutherAI/pythia-410m": ("gpt-neox", "gpt2", {"tie_word_embeddings": False}),
    "HuggingFaceTB/SmolLM2-135M": ("smollm", "gpt2", {}),
    "Qwen/Qwen3-0.6B-Base": ("qwen3", "llama3", {"tie_word_embeddings": True}),
    "meta-llama/Llama-3.2-1B": ("llama-tied", "llama3", {}),
}
PADDED = {"bigscience/bloom-1b7", "bigscience/bloom-7b1", "EleutherAI/pythia-410m"}  # more rows than tokens


class Small:
    """`sources`: folder of each hub id's small counterpart; `helper`, `texts`, `vectors`: what the chain reads."""

    def __init__(self, root: Path, german: list[str]) -> None:
        self.sources = {name: self._source(root, name) for name in SOURCES}
        self.helper = self._helper(root / "helper", german)
        self.texts = root / "german.txt"
        self.texts.write_text("\n\n".join(german), encoding="utf-8")
        self.vectors = self._vectors(root)

    @staticmethod
    def _source(root: Path, name: str) -> Path:
        family, kind, settings = SOURCES[name]
        tokenizer = tokenizers.make(kind)
        rows = len(tokenizer) + (27 if name in PADDED else 0)
        folder = save_family(family, root / name.replace("/", "-"), rows, **settings).folder
        tokenizer.save_pretrained(folder)
        return folder

    @staticmethod
    def _helper(folder: Path, german: list[str]) -> Path:
        """A GPT-2, as the experiments' helpers are, with a byte-level vocabulary of German alone."""
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.byte_level(340, texts=german), **tokenizers.END, unk_token="<|endoftext|>"
        )
        save_family("gpt2", folder, len(tokenizer), n_embd=8)
        model = AutoModelForCausalLM.from_pretrained(folder)
        model.get_input_embeddings().weight.data += 0.1 * torch.randn(8)  # without a common part clp's rows explode
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    @staticmethod
    def _vectors(root: Path) -> list[str]:
        """Word vectors of both languages and a dictionary, as overrides for wechsel."""
        words = {"vectors": ["Haus", "Straße", "grün", "Hund"], "source_vectors": ["house", "street", "green", "dog"]}
        draw = torch.Generator().manual_seed(1)
        for name, known in words.items():
            rows = [f"{word} {' '.join(f'{x:.3f}' for x in torch.randn(4, generator=draw))}" for word in known]
            (root / f"{name}.vec").write_text("\n".join([f"{len(known)} 4", *rows]) + "\n", encoding="utf-8")
        pairs = zip(words["source_vectors"], words["vectors"], strict=True)
        (root / "dictionary.txt").write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
        files = {**{name: f"{name}.vec" for name in words}, "dictionary": "dictionary.txt"}
        return [f"method.{option}={root / file}" for option, file in files.items()]


@pytest.fixture(scope="session")
def small(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Small:
    quieten()
    return Small(tmp_path_factory.mktemp("small"), world.german)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Stages run in this process: the number of threads and what is logged are theirs only meanwhile."""
    threads, level = torch.get_num_threads(), logging.getLogger("clp_transfer").level
    yield
    torch.set_num_threads(threads)
    logging.getLogger("clp_transfer").setLevel(level)
