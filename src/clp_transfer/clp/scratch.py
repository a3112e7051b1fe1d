"""Training from scratch: the source's shape with the target's vocabulary, every weight drawn anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from clp_transfer.card import write_card
from clp_transfer.clp.checkpoint.configs import write_configs
from clp_transfer.clp.job import TransferJob
from clp_transfer.clp.models import Ingredients
from clp_transfer.errors import UserError
from clp_transfer.files import write_json


def write_scratch(job: TransferJob, folder: Path) -> dict[str, Any]:
    """Write the model into an existing folder; returns the report. Raises UserError for an unknown family."""
    from transformers import AutoConfig, AutoModelForCausalLM

    opened = Ingredients.open(
        job.source,
        job.helpers,
        job.tokenizer,
        **job.where,
    )
    source, target = opened.source, opened.target
    rows = target.size + (-target.size % job.pad_to_multiple_of if job.pad_to_multiple_of else 0)
    write_configs(source.folder, opened.tokenizer_folder, target.tokenizer, rows, folder)
    torch.manual_seed(job.seed)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=job.trust_remote_code)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=job.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{source.folder} cannot be built anew: {str(error).partition(chr(10))[0]}",
            "scratch needs a family that transformers knows; method.name=random keeps the source's body",
        ) from error
    model.save_pretrained(folder)
    write_configs(source.folder, opened.tokenizer_folder, target.tokenizer, rows, folder)
    overlap = opened.overlap.as_dict()
    write_card(
        folder,
        title=f"{source.name}'s shape from scratch, {job.language}",
        language=job.language,
        base_model=source.name,
        body="Every weight is drawn anew, none is trained yet.",
    )
    report: dict[str, Any] = {
        "method": job.method.name,
        "options": {},
        "seed": job.seed,
        "language": job.language,
        "overlap": overlap,
        "diagnostics": {},
        "norms": {},
        "warnings": [],
        "rows": rows,
    }
    write_json(folder / "transfer.json", report)
    return report
