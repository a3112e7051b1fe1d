"""A GGUF file made into an ordinary model folder: safetensors, config, tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*")


def convert(gguf: Path, out: Path) -> None:
    """Convert a GGUF file of a known architecture to a `save_pretrained` folder, float32, with its tokenizer.

    The quantised weights are expanded exactly: float32 holds every value of the file.
    """
    source = {"gguf_file": gguf.name, "local_files_only": True}
    AutoTokenizer.from_pretrained(gguf.parent, **source).save_pretrained(out)
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
    config = loaded.config
    # A model loaded from GGUF refuses to be saved because its config says that it is quantised; its weights
    # are not. So a plain model of the same config takes them over, without a second copy in memory.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = loaded.generation_config
    plain.save_pretrained(out)


def copy_tokenizer(model: Path, out: Path) -> None:
    """Copy the tokenizer out of a model folder."""
    out.mkdir(parents=True, exist_ok=True)
    for pattern in TOKENIZER_FILES:
        for path in sorted(model.glob(pattern)):
            shutil.copyfile(path, out / path.name)
