"""Load a model for measuring, and refuse one whose tokenizer does not fit it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from clp_transfer.errors import UserError
from clp_transfer.train.attention import fuse_bloom

log = logging.getLogger(__name__)

REMEDY = "give a folder that save_pretrained wrote (config.json, *.safetensors and the tokenizer)"


def load_model(
    folder: Path,
    *,
    device: str | None = None,
    dtype: torch.dtype | str = torch.float32,
    trust_remote_code: bool = False,
) -> Any:
    """The causal language model of a `save_pretrained` folder, in eval mode; BLOOM with fused attention.

    `device`: None: the GPU where there is one. `dtype`: of the weights; `auto`: as they are stored.

    Raises UserError where the folder holds no such model, or only a part of one.
    """
    transformers_logging.disable_progress_bar()
    try:
        found: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, trust_remote_code=trust_remote_code, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder} is not a causal language model: {str(error).splitlines()[0]}", REMEDY) from error
    model, told = found
    if told["missing_keys"]:
        names = sorted(told["missing_keys"])
        raise UserError(
            f"{folder} has no weights for {len(names)} of its model's tensors, such as {names[0]}",
            "give a whole causal language model: what is not there would be drawn at random",
        )
    fuse_bloom(model)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def load_tokenizer(folder: Path, model: Any, *, trust_remote_code: bool = False) -> Any:
    """The folder's tokenizer; raises UserError where it has more tokens than the model has embedding rows."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        # transformers' commonest message is a list of all that it tried, whose first line only announces it.
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{folder} has no tokenizer that can be loaded"
            + ("" if not reason or reason.endswith(":") else f": {reason}"),
            "save the tokenizer that the model was trained with into the same folder",
        ) from error
    check_rows(tokenizer, model, str(folder))
    return tokenizer


def check_rows(tokenizer: Any, model: Any, name: str) -> None:
    """Raise UserError where the tokenizer has more tokens than the model has embedding rows."""
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise UserError(
            f"{name}: the tokenizer has {len(tokenizer)} tokens, but the model's embedding has {rows} rows",
            "save the tokenizer that the model was trained with into the same folder",
        )


def use_threads(threads: int | None) -> None:
    """Compute with this many CPU threads; None leaves torch's choice."""
    if threads is not None:
        torch.set_num_threads(threads)
