"""Checkpoints that are whole or absent, so that a killed run goes on as if nothing had happened."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.files import read_json, sync_tree, write_json


@dataclass(frozen=True)
class Progress:
    """Where training stands: steps done, seconds spent, how much of metrics.jsonl belongs to them, and the ranks."""

    step: int = 0
    seconds: float = 0.0
    metrics_bytes: int = 0
    world_size: int = 1


def save(accelerator: Any, folder: Path, progress: Progress) -> None:
    """Write `folder/step-N` aside, sync it and rename it on rank 0; older checkpoints go after that."""
    final = folder / f"step-{progress.step}"
    aside = folder / f"{final.name}.partial"
    if accelerator.is_main_process:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    accelerator.wait_for_everyone()
    # Not safetensors: those refuse tied tensors, and this file never leaves the run.
    accelerator.save_state(str(aside), safe_serialization=False)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_json(aside / "progress.json", progress.__dict__)
        sync_tree(aside)
        aside.rename(final)
        for other in folder.iterdir():
            if other != final:
                shutil.rmtree(other, ignore_errors=True)
    accelerator.wait_for_everyone()


def latest(folder: Path) -> Path | None:
    """The last complete checkpoint; partial ones are never seen, their name does not match."""
    found = [(int(m[1]), p) for p in folder.glob("step-*") if (m := re.fullmatch(r"step-(\d+)", p.name))]
    return max(found)[1] if found else None


def resume(accelerator: Any, folder: Path) -> Progress:
    """Load the last complete checkpoint into the prepared objects; a fresh Progress where there is none."""
    checkpoint = latest(folder)
    if checkpoint is None:
        return Progress()
    progress = Progress(**read_json(checkpoint / "progress.json"))
    if progress.world_size != accelerator.num_processes:
        raise UserError(
            f"{checkpoint} was written by {progress.world_size} ranks, and this run has {accelerator.num_processes}",
            f"run it with {progress.world_size} ranks again, or delete {folder.parent} to start anew",
        )
    accelerator.load_state(str(checkpoint))
    return progress
