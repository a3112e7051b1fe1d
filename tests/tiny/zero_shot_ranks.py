"""What a rank does in the tests of the zero-shot tasks on several ranks."""

from __future__ import annotations

import json
from pathlib import Path


def measure(model_folder: Path, data_dir: Path, out: Path, names: list[str], limit: int | None) -> None:
    """Measure the tasks, on all ranks if there are several, and write this rank's rows."""
    import os

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from clp_transfer.evaluate.zero_shot import zero_shot
    from clp_transfer.train.together import rank

    torch.set_num_threads(1)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        torch.distributed.init_process_group("gloo")
    rows = zero_shot(
        AutoModelForCausalLM.from_pretrained(model_folder),
        AutoTokenizer.from_pretrained(model_folder),
        names,
        data_dir=data_dir,
        limit=limit,
        fewshot=0,
        batch_size=2,
        cache=out / "cache",
        model_key="tiny",
        seed=0,
    )
    (out / f"{rank()}.json").write_text(json.dumps(rows))
