"""The target's tokenizer beside the source's config: the same files, and loaded as the same tokenizer.

transformers chooses the tokenizer's class by the model's family too. Beside a `qwen2` config it takes Qwen2's class
whatever the tokenizer's own config says (5.x), which keeps the vocabulary but cuts text as Qwen2 does: the target
would read its own training text in other pieces. So what is written is loaded, compared, and pinned where it differs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from clp_transfer.clp.checkpoint.ranges import explained
from clp_transfer.errors import UserError
from clp_transfer.files import read_json, write_json, write_text

FILES = (
    "tokenizer*.json",
    "*.model",
    "*.tiktoken",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
)
CODE_FILES = ("tokenization_*.py",)
CONFIG = "tokenizer_config.json"
GENERIC = "PreTrainedTokenizerFast"
MODULE = "tokenization_generic"
CODE = '''"""The tokenizer is tokenizer.json, read as it is; see `auto_map` in tokenizer_config.json."""

from transformers import PreTrainedTokenizerFast


class GenericTokenizer(PreTrainedTokenizerFast):
    """`PreTrainedTokenizerFast`, under a name that no model's family overrides."""
'''
# Numbers, contractions, runs of spaces and lines, scripts, camel case, code: where pre-tokenizers disagree.
PROBE = (
    "Die Straße ist 12345 m lang, Karl's Haus  steht dort.\n\n\tIch weiß:\r\n  3,14 % – „GRÜN“ istSchön!!! "
    "def f(x_1): return {'a': [x**2]}  # 中文字 日本語 Привет мир مرحبا हिन्दी 🙂🙂 ﬁ ½ e\u0301 ... \u00a0 ~~"
)


def copy_tokenizer(folder: Path, out: Path) -> int:
    """Copy the tokenizer's files and nothing of the model; returns how many there were."""
    return copy_files(folder, out, FILES + CODE_FILES)


def copy_files(folder: Path, out: Path, patterns: tuple[str, ...]) -> int:
    """Copy the files of a folder that match; returns how many there were."""
    found = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    with explained(out):
        for path in found:
            (out / path.name).unlink(missing_ok=True)
            shutil.copyfile(path, out / path.name)
    return len(found)


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a folder, as `AutoTokenizer` chooses it; raises UserError where there is none."""
    from transformers import AutoTokenizer

    more = {} if (config := _told(folder)) is None else {"config": config}
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True, **more)
    except Exception as error:  # each tokenizer class has its own
        raise UserError(
            f"{folder} has no usable tokenizer: {str(error).partition(chr(10))[0]}", "save the tokenizer beside it"
        ) from error


def _told(folder: Path) -> Any | None:
    """All that `AutoTokenizer` asks of a model's config, where the tokenizer's own names its class: of that config's
    class it then needs nothing, and to import it takes a second and 100 MB for some families.

    None where it is to look for itself: at families that transformers does not know, and at folders with code.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    try:
        model, own = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", CONFIG))
        plain = "auto_map" not in model and "auto_map" not in own and model["model_type"] in CONFIG_MAPPING_NAMES
        if not plain or not isinstance(own["tokenizer_class"], str):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    told = {name: model[name] for name in ("model_type", "model_name", "tokenizer_class") if name in model}
    return SimpleNamespace(**{"tokenizer_class": None, "_name_or_path": str(folder)} | told)


def same_tokenizer(one: Any, other: Any) -> bool:
    """Whether two tokenizers have the same vocabulary and special ids and cut a difficult text alike."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
    return (
        one.get_vocab() == other.get_vocab()
        and all(getattr(one, name) == getattr(other, name) for name in names)
        and _cut(one) == _cut(other)
    )


def _cut(tokenizer: Any) -> list[int] | str:
    """The difficult text as ids; the error's words where the tokenizer cannot (a vocabulary without unknown token)."""
    try:
        ids: list[int] = tokenizer(PROBE)["input_ids"]
    except Exception as error:  # the Rust side raises bare exceptions
        return str(error)
    return ids


def pin_tokenizer(tokenizer: Any, out: Path) -> None:
    """Make the tokenizer in `out` load as `tokenizer` does, whatever the config beside it.

    Nothing is changed where it does already. Else tokenizer_config.json names the generic class; where that is
    overruled too, an `auto_map`, which transformers respects: without `trust_remote_code` it then takes the generic
    class itself, with it three lines of code that say the same. Last, tokenizer.json becomes what `tokenizer` has in
    memory. Raises UserError where even that does not help.
    """
    if _loads_as(tokenizer, out):
        return
    settings = read_json(out / CONFIG) if (out / CONFIG).is_file() else {}
    settings["tokenizer_class"] = GENERIC
    write_json(out / CONFIG, settings)
    if _loads_as(tokenizer, out):
        return
    write_text(out / f"{MODULE}.py", CODE)
    write_json(out / CONFIG, settings | {"auto_map": {"AutoTokenizer": [None, f"{MODULE}.GenericTokenizer"]}})
    if _loads_as(tokenizer, out):
        return
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        write_text(out / "tokenizer.json", backend.to_str())
        if _loads_as(tokenizer, out):
            return
    raise UserError(
        f"{out}: beside the source's config, transformers does not load the target's tokenizer as it is alone",
        "save the target's tokenizer as a fast one (tokenizer.json) and give that",
    )


def _loads_as(tokenizer: Any, out: Path) -> bool:
    try:
        return same_tokenizer(load_tokenizer(out), tokenizer)
    except UserError:
        return False
