"""config.json and generation_config.json of the target: the source's, with the target's vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clp_transfer.clp.checkpoint.layout import read_config
from clp_transfer.clp.checkpoint.tokenizer import copy_files, copy_tokenizer, pin_tokenizer
from clp_transfer.files import read_json, write_json

IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
OTHER_IDS = ("unk_token_id", "sep_token_id", "cls_token_id", "mask_token_id")
TEXT_CONFIGS = ("text_config", "llm_config", "language_config", "decoder")
# What generation settings say in ids of the old vocabulary, besides keys that end in _token_id(s).
OLD_TOKENS = (
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_decoder_ids",
    "bad_words_ids",
    "force_words_ids",
    "sequence_bias",
    "constraints",
    "lang_to_id",
    "task_to_id",
)
CONFIG, GENERATION = "config.json", "generation_config.json"
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


def write_configs(
    source: Path, tokenizer_folder: Path, tokenizer: Any, rows: int, out: Path, identical: bool = False
) -> None:
    """Write everything of the target but its weights: configs, tokenizer, the source's licence and custom code.

    config.json is edited as it is, so that keys that transformers does not know survive: the vocabulary's size
    (`rows`, the new tables') and the special tokens' ids change, the dtype and all else stay. `tokenizer` is what
    `tokenizer_folder` holds. `identical`: the vocabularies are the same, and every file stays the source's.
    """
    copy_files(source, out, LICENCES)
    if "auto_map" in read_config(source):
        copy_files(source, out, ("*.py",))
    if identical:
        copy_files(source, out, (CONFIG, GENERATION))
        if not copy_tokenizer(source, out):
            copy_tokenizer(tokenizer_folder, out)
    else:
        write_json(out / CONFIG, target_config(read_config(source), tokenizer, rows))
        generation = read_json(source / GENERATION) if (source / GENERATION).is_file() else None
        write_json(out / GENERATION, target_generation(generation, tokenizer))
        copy_tokenizer(tokenizer_folder, out)
        pin_tokenizer(tokenizer, out)


def target_config(config: dict[str, Any], tokenizer: Any, rows: int) -> dict[str, Any]:
    """The source's config with the target's number of rows and special ids."""
    config = dict(config)
    nested = [name for name in TEXT_CONFIGS if isinstance(config.get(name), dict)]
    text = dict(config[nested[0]]) if nested else config
    old = text.get("vocab_size", config.get("vocab_size"))
    for level in (config, text):
        sizes = [name for name in level if "vocab" in name and old is not None and level[name] == old]
        level.update(dict.fromkeys(sizes, rows))
        level.update({name: getattr(tokenizer, name) for name in (*IDS, *OTHER_IDS) if name in level})
    # Written even where the source leaves them to its class, whose defaults are of another vocabulary.
    if old is None and not any("vocab_size" in name for name in text):
        text["vocab_size"] = rows
    text.update({name: getattr(tokenizer, name) for name in IDS})
    config.pop("tokenizer_class", None)  # the source's
    if nested:
        config[nested[0]] = text
    return config


def target_generation(generation: dict[str, Any] | None, tokenizer: Any) -> dict[str, Any]:
    """The source's generation settings (None: it has none) without ids of its vocabulary, and with the target's."""
    kept = {
        name: value
        for name, value in ({"_from_model_config": True} if generation is None else generation).items()
        if name not in OLD_TOKENS and not name.endswith(("_token_id", "_token_ids"))
    }
    return kept | {name: getattr(tokenizer, name) for name in IDS}
