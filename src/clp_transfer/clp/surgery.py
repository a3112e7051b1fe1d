"""Put new embedding tables and a new tokenizer into a model folder; every other tensor is the source's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GenerationConfig

from clp_transfer.clp.tables import ModelFolder
from clp_transfer.clp.transfer import TransferRows
from clp_transfer.errors import UserError

TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def write_target(source: ModelFolder, rows: TransferRows, tokenizer: Path, out: Path) -> None:
    """Write the target: the source's tensors and dtypes, the new tables, ids and vocabulary of the target."""
    input_name, head_name = source.names
    replaced = {input_name: rows.input}
    if head_name is not None and rows.head is not None:
        replaced[head_name] = rows.head
    tensors = {}
    for name in source.files:
        if name != source.tied_copy:
            old = source.tensor(name)
            tensors[name] = (replaced[name].to(old.dtype) if name in replaced else old).contiguous()
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    write_configs(source, tokenizer, out)


def write_scratch(source: ModelFolder, tokenizer: Path, out: Path, seed: int) -> None:
    """Write a model of the source's shape with the target's vocabulary and every weight drawn anew."""
    config = target_config(source, tokenizer)
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(out)
    write_configs(source, tokenizer, out)


def target_config(source: ModelFolder, tokenizer: Path) -> Any:
    """The source's config with the target's vocabulary size and special ids."""
    target = ModelFolder(tokenizer).tokenizer
    config = type(source.config).from_dict(source.config.to_dict())
    text = config.get_text_config()
    text.vocab_size = max(target.get_vocab().values()) + 1
    for name in TOKEN_IDS:
        setattr(text, name, getattr(target, name))
    return config


def write_configs(source: ModelFolder, tokenizer: Path, out: Path) -> None:
    """Write config.json, generation_config.json and the tokenizer's files."""
    config = target_config(source, tokenizer)
    config.architectures = source.config.architectures
    config.save_pretrained(out)
    GenerationConfig.from_model_config(config).save_pretrained(out)
    for file in tokenizer.iterdir():
        if file.is_file() and file.suffix in (".json", ".txt", ".model", ".jinja") and not _is_model_file(file):
            shutil.copyfile(file, out / file.name)


def _is_model_file(file: Path) -> bool:
    """Files of a folder that belong to its model, not to its tokenizer."""
    names = (
        "config.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "manifest.json",
        "transfer.json",
    )
    return file.name in names


def verify(out: Path, rows: TransferRows | None) -> None:
    """Re-open the written model and check vocabulary, ids and tables; raises UserError where they disagree."""
    written = ModelFolder(out)
    vocabulary = max(written.tokenizer.get_vocab().values()) + 1
    table = written.rows(written.names[0], "target")
    stored = json.loads((out / "config.json").read_text()).get("vocab_size")
    same = rows is None or torch.equal(table, rows.input.to(written.tensor(written.names[0]).dtype).float())
    if table.shape[0] != vocabulary or stored not in (vocabulary, None) or not same:
        raise UserError(
            f"{out} does not read back as it was made ({table.shape[0]} rows, vocabulary {vocabulary})",
            "the disk may be full or failing; run the stage again",
        )
