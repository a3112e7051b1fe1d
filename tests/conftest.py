"""Tiny tokenizers, models and packs, made from generated text; nothing is fetched."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

from clp_transfer.files import sha256_file
from clp_transfer.packed import write_pack

ROOT = Path(__file__).resolve().parents[1]
# `python -m pytest` puts the root on the path, where evaluate.py and clp.py shadow packages of those names.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]

GERMAN = re.findall(
    r"\w+", "der die das und Haus Straße Baum grün groß Tür über Mädchen fährt schön Wasser Stadt Hund in auf ist"
)
ENGLISH = re.findall(
    r"\w+", "the a of and house street tree green big door over girl drives fine water city dog in on is"
)


def sentences(words: list[str], count: int, seed: int) -> list[str]:
    """Made-up sentences, the same for the same seed."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=draw.randint(4, 12))).capitalize() + "." for _ in range(count)]


def make_tokenizer(folder: Path, texts: list[str], size: int) -> Path:
    """A byte-level BPE with `<|endoftext|>` as its first id, saved in a folder."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = "<|endoftext|>"
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end, pad_token=end
    )
    fast.save_pretrained(folder)
    return folder


def make_model(
    folder: Path, tokenizer: Path, *, width: int, seed: int, tied: bool = True, family: str = "llama"
) -> Path:
    """A two-layer model with drawn weights, saved with its tokenizer."""
    import torch

    fast = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    shared = {"vocab_size": len(fast), "tie_word_embeddings": tied, **ids}
    config = (
        GPT2Config(n_embd=width, n_layer=2, n_head=2, n_positions=64, **shared)
        if family == "gpt2"
        else LlamaConfig(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            **shared,
        )
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    # The drawn tables are nearly orthogonal; a common part gives the cosines a sum, as trained tables have.
    table = model.get_input_embeddings().weight.data
    table += 0.02 * torch.randn(width, generator=torch.Generator().manual_seed(seed))
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def make_pack(prefix: Path, tokenizer: Path, texts: list[str]) -> Path:
    """A pack of the texts."""
    fast = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    made_with = sha256_file(tokenizer / "tokenizer.json")
    pairs = ((text, fast(text)["input_ids"]) for text in texts)
    write_pack(prefix, pairs, eos_id=fast.eos_token_id, vocab_size=len(fast), tokenizer=made_with)
    return prefix


class World:
    """Everything that the stages need, on a few kilobytes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.german, self.english = sentences(GERMAN, 400, 1), sentences(ENGLISH, 400, 2)
        self.source_tokenizer = make_tokenizer(root / "tokenizers/source", self.english, 330)
        self.target_tokenizer = make_tokenizer(root / "tokenizers/target", self.german, 340)
        self.source = make_model(root / "models/source", self.source_tokenizer, width=32, seed=1)
        self.untied = make_model(root / "models/untied", self.source_tokenizer, width=32, seed=1, tied=False)
        self.gpt2 = make_model(root / "models/gpt2", self.source_tokenizer, width=32, seed=1, family="gpt2")
        self.helper = make_model(root / "models/helper", self.target_tokenizer, width=16, seed=2)
        self.train_pack = make_pack(root / "packs/target/train", self.target_tokenizer, self.german[:350])
        self.validation_pack = make_pack(root / "packs/target/validation", self.target_tokenizer, self.german[350:])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The shared, read-only world of tiny things."""
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No W&B, no hub, no GPU search."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
