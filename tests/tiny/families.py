"""One tiny model of each family, saved in a folder, and where its tables should be found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
OPT = {
    "hidden_size": 16,
    "ffn_dim": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
HEAD = "lm_head.weight"
# name: (model type, settings, input table, own head or None, its bias or None)
FAMILIES: dict[str, tuple[str, dict[str, Any], str, str | None, str | None]] = {
    "gpt2": (
        "gpt2",
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
        "transformer.wte.weight",
        None,
        None,
    ),
    "bloom": (
        "bloom",
        {"hidden_size": 16, "n_layer": 2, "n_head": 2},
        "transformer.word_embeddings.weight",
        None,
        None,
    ),
    "gpt-neox": (
        "gpt_neox",
        {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"},
        "gpt_neox.embed_in.weight",
        "embed_out.weight",
        None,
    ),
    "opt": ("opt", OPT, "model.decoder.embed_tokens.weight", None, None),
    "opt-projected": (
        "opt",
        OPT | {"word_embed_proj_dim": 8, "do_layer_norm_before": False},
        "model.decoder.embed_tokens.weight",
        None,
        None,
    ),
    "llama-tied": ("llama", LLAMA | {"tie_word_embeddings": True}, "model.embed_tokens.weight", None, None),
    "llama-untied": ("llama", LLAMA, "model.embed_tokens.weight", HEAD, None),
    "smollm": (
        "llama",
        LLAMA | {"tie_word_embeddings": True, "num_attention_heads": 4, "rope_theta": 100000.0, "dtype": "bfloat16"},
        "model.embed_tokens.weight",
        None,
        None,
    ),
    "mistral": ("mistral", LLAMA | {"sliding_window": None}, "model.embed_tokens.weight", HEAD, None),
    "qwen2": ("qwen2", LLAMA | {"tie_word_embeddings": True}, "model.embed_tokens.weight", None, None),
    "qwen3": ("qwen3", LLAMA | {"head_dim": 8}, "model.embed_tokens.weight", HEAD, None),
    "gemma2": ("gemma2", LLAMA | {"head_dim": 8, "sliding_window": 32}, "model.embed_tokens.weight", None, None),
    "gemma3": ("gemma3_text", LLAMA | {"head_dim": 8, "sliding_window": 32}, "model.embed_tokens.weight", None, None),
    "phi3": ("phi3", LLAMA, "model.embed_tokens.weight", HEAD, None),
    "phi": ("phi", LLAMA | {"num_key_value_heads": 2}, "model.embed_tokens.weight", HEAD, "lm_head.bias"),
}


@dataclass(frozen=True)
class Family:
    """A saved model and where its tables should be found."""

    name: str
    folder: Path
    input: str
    head: str | None
    bias: str | None

    @property
    def tables(self) -> list[str]:
        return [name for name in (self.input, self.head, self.bias) if name]


def save_family(name: str, folder: Path, rows: int, save: dict[str, Any] | None = None, **settings: Any) -> Family:
    """Save a family's tiny model with so many rows; `save` are options of save_pretrained, `settings` the config's."""
    kind, own, inputs, head, bias = FAMILIES[name]
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **({"vocab_size": rows} | ids | own | settings))
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():  # some families begin with zeros and ones, which would hide mistakes
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder, **(save or {}))
    return Family(name, folder, inputs, head, bias)


def make_helper(folder: Path, family: str, tokenizer: Any) -> Path:
    """A helper whose rows have a common part, as trained ones have: without it the paper's weights explode."""
    folder = folder.with_name(f"helper-{folder.name}")
    made = save_family(family, folder, len(tokenizer), hidden_size=8)
    model = AutoModelForCausalLM.from_pretrained(folder)
    for table in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
        table.data += 0.1 * torch.randn(8)
    model.save_pretrained(made.folder)
    tokenizer.save_pretrained(folder)
    return folder


def quieten() -> None:
    """No progress bars and no notes on odd configs from transformers."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
