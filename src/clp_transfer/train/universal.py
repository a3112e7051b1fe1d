"""ZeRO shards on another number of ranks, by way of DeepSpeed's universal checkpoint (one file per parameter)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from clp_transfer.errors import UserError
from clp_transfer.train.together import on_main, together

MOST_WORKERS = 4  # each holds one rank's shard in memory
SUFFIX = ".universal"
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def load(engine: Any, checkpoint: Path, tag: str, saved_ranks: int) -> None:
    """Load the shards that `saved_ranks` ranks wrote into this engine; all ranks call it.

    It needs the checkpoint's size again on the disk while it loads. Raises UserError where DeepSpeed cannot convert.
    """
    converted = checkpoint.with_name(f"{checkpoint.name}{SUFFIX}")
    on_main(lambda: convert(checkpoint / tag, converted / tag, saved_ranks))
    try:
        together(lambda: _load(engine, converted, tag))
    finally:
        on_main(lambda: shutil.rmtree(converted, ignore_errors=True))


def convert(shards: Path, out: Path, saved_ranks: int) -> None:
    """Write DeepSpeed's universal form of a folder of shards, in a process of its own, which may fork."""
    shutil.rmtree(out.parent, ignore_errors=True)
    out.parent.mkdir(parents=True)
    workers = str(max(1, min(MOST_WORKERS, saved_ranks, os.cpu_count() or 1)))
    command = [sys.executable, "-P", "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", str(shards), "--output_folder", str(out)]
    command += ["--num_extract_workers", workers, "--num_merge_workers", workers]
    environment = {key: value for key, value in os.environ.items() if key not in LAUNCHER}
    done = subprocess.run(command, env=environment | {"DS_ACCELERATOR": "cpu"}, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise UserError(
            f"DeepSpeed could not convert {shards} to another number of ranks: {lines[-1]}",
            f"run it with {saved_ranks} ranks again, as when it was saved",
        )


def _load(engine: Any, folder: Path, tag: str) -> None:
    first = next((folder / tag).glob("*mp_rank_00_model_states.pt"))
    model: dict[str, Any] = torch.load(first, map_location="cpu", weights_only=False)
    if engine.zero_optimization_stage() < 3:
        # The universal form has only what the optimizer has: not the buffers, nor what is frozen.
        engine.load_module_state_dict(model, strict=True)
    engine._config.load_universal_checkpoint = True
    try:
        engine.load_checkpoint(str(folder), tag=tag)
    finally:
        engine._config.load_universal_checkpoint = False
    if engine.zero_optimization_stage() == 3:
        saved = torch.load(folder / tag / "zero" / "optimizer_state.pt", map_location="cpu", weights_only=False)
        _mend(engine.optimizer, saved["optimizer_state_dict"], model["param_shapes"])


def _mend(optimizer: Any, saved: dict[str, Any], pieces: list[dict[str, Any]]) -> None:
    """Give each group of ZeRO 3 its own settings and step count again.

    DeepSpeed 0.19 gives all groups the settings of the first, and all their pieces one and the same step count, which
    then grows by one for each piece in every update.
    """
    for group, was in zip(optimizer.optimizer.param_groups, saved["param_groups"], strict=True):
        group.update({key: value for key, value in was.items() if key != "params"})
    steps = {name: saved["state"][number]["step"] for number, piece in enumerate(pieces) for name in piece}
    for flat, parameters in zip(optimizer.fp32_partitioned_groups_flat, optimizer.fp16_groups, strict=True):
        step = steps[optimizer.param_names[parameters[0]]]
        optimizer.optimizer.state[flat]["step"] = step.clone() if torch.is_tensor(step) else step
