"""Load a model folder for measuring, and refuse one whose tokenizer does not fit it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from clp_transfer.errors import UserError

log = logging.getLogger(__name__)


def load_model(folder: Path, *, dtype: torch.dtype = torch.float32) -> Any:
    """The causal language model of a `save_pretrained` folder, in eval mode, on the GPU where there is one.

    Raises UserError where the folder holds no such model.
    """
    transformers_logging.disable_progress_bar()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} is not a causal language model: {str(error).splitlines()[0]}",
            "give a folder that save_pretrained wrote (config.json, *.safetensors and the tokenizer)",
        ) from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def load_tokenizer(folder: Path, model: Any) -> Any:
    """The folder's tokenizer; raises UserError where it has more tokens than the model has embedding rows."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} has no tokenizer: {str(error).splitlines()[0]}",
            "save the tokenizer that the model was trained with into the same folder",
        ) from error
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise UserError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, but the model's embedding has {rows} rows",
            "save the tokenizer that the model was trained with into the same folder",
        )
    return tokenizer


def use_threads(threads: int | None) -> None:
    """Compute with this many CPU threads; None leaves torch's choice."""
    if threads is not None:
        torch.set_num_threads(threads)
