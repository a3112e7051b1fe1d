"""A GGUF file made into an ordinary model folder: safetensors, config, tokenizer, model card."""

from __future__ import annotations

import io
import struct
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from clp_transfer.errors import UserError
from clp_transfer.files import write_text
from clp_transfer.prepare.job import WheelConfig


def convert(gguf: Path, out: Path) -> None:
    """Convert a GGUF file to a `save_pretrained` folder in float32, with its tokenizer.

    The quantised weights are expanded exactly: of the dtypes that are trained in, float32 alone holds every
    value (a 4-bit block's float16 scale times an integer plus an offset does not fit in bfloat16). Raises
    UserError where transformers cannot read the file.
    """
    tokenizer, loaded = _load(gguf)
    # Where it was loaded from is no property of the tokenizer, and not for the file to keep.
    for key in ("local_files_only", "is_local", "gguf_file"):
        tokenizer.init_kwargs.pop(key, None)
    tokenizer.save_pretrained(out)
    config = loaded.config
    # A model loaded from GGUF refuses to be saved because its config says that it is quantised; its weights
    # are not any more. So a plain model of the same config takes them over, without a second copy in memory.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = loaded.generation_config
    with _no_progress_bars():
        plain.save_pretrained(out)


def _no_progress_bars() -> redirect_stderr[io.StringIO]:
    """Silence the bars, some of which ignore transformers' switch; logging is unaffected, errors are raised."""
    return redirect_stderr(io.StringIO())


def _load(gguf: Path) -> tuple[Any, Any]:
    """The tokenizer and the float32 model in a GGUF file."""
    source: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    try:
        with _no_progress_bars():
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
            model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
    except (ValueError, KeyError, IndexError, OSError, RuntimeError, struct.error) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{gguf.name} cannot be read as a GGUF model: {reason[0]}",
            "name a member that is a GGUF file of an architecture that transformers knows",
        ) from error
    return tokenizer, model


def write_card(out: Path, name: str, wheel: WheelConfig) -> None:
    """Write the model card of a converted model: where it comes from and its licence."""
    write_text(
        out / "README.md",
        f"---\nlicense: {wheel.licence.lower() or 'unknown'}\nlibrary_name: transformers\n---\n\n# {name}\n\n"
        f"`{Path(wheel.member).name}` of the wheel `{wheel.package}=={wheel.version}` (sha256 `{wheel.sha256}`),\n"
        "its weights expanded to float32 and otherwise unchanged, converted by `prepare.py` of clp-transfer.\n",
    )
