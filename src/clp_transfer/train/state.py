"""What a checkpoint holds: the weights, the optimizer's state and each rank's random numbers.

One process and DDP write one copy, which any number of ranks can read. DeepSpeed writes its shards, which are
converted where the number of ranks has changed (`universal.py`).
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clp_transfer.errors import UserError
from clp_transfer.train import universal

TAG = "deepspeed"  # DeepSpeed's folder in a checkpoint


def zero_stage(accelerator: Any) -> int | None:
    """The ZeRO stage of this run; None without DeepSpeed."""
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    return None if plugin is None else int(plugin.zero_stage)


def write(accelerator: Any, folder: Path) -> None:
    """Write the state of what accelerate has prepared; all ranks call it. Raises what the disk says, at the end."""
    if zero_stage(accelerator) is not None:
        _write_shards(accelerator._models[0], folder)
    elif accelerator.is_main_process:
        torch.save([_inner(model).state_dict() for model in accelerator._models], folder / "model.pt")
        torch.save([optimizer.state_dict() for optimizer in accelerator._optimizers], folder / "optimizer.pt")
        if accelerator.scaler is not None:
            torch.save(accelerator.scaler.state_dict(), folder / "scaler.pt")
    torch.save(_random_state(accelerator.device), folder / f"random-{accelerator.process_index}.pt")


def load(accelerator: Any, folder: Path, saved_ranks: int) -> None:
    """Load what `write` wrote, on the same or another number of ranks; all ranks call it."""
    if zero_stage(accelerator) is not None:
        _load_shards(accelerator, folder, saved_ranks)
    else:
        _load_copies(accelerator, folder)
    _load_random(folder, accelerator.process_index, saved_ranks, accelerator.device)


def _inner(model: Any) -> Any:
    """The model without DDP's wrapper, whose names differ with the number of ranks."""
    return model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) else model


def _load_copies(accelerator: Any, folder: Path) -> None:
    # On a CPU the optimizer keeps the very tensors that are loaded, so they must not be views of the file.
    how: dict[str, Any] = {"map_location": "cpu", "mmap": accelerator.device.type != "cpu", "weights_only": True}
    for model, state in zip(accelerator._models, torch.load(folder / "model.pt", **how), strict=True):
        _inner(model).load_state_dict(state)
    for optimizer, state in zip(accelerator._optimizers, torch.load(folder / "optimizer.pt", **how), strict=True):
        optimizer.load_state_dict(state)
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(torch.load(folder / "scaler.pt", **how))


class _Writer:
    """DeepSpeed's writer with its error kept for later: raised inside, the other ranks would wait for this one."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.writer, name)

    def makedirs(self, path: Any, exist_ok: bool = False) -> None:
        """Make a folder."""
        self._try(lambda: self.writer.makedirs(path, exist_ok=exist_ok))

    def save(self, state_dict: Any, path: str) -> None:
        """Write one file."""
        self._try(lambda: self.writer.save(state_dict, path))

    def _try(self, action: Any) -> None:
        if self.error is None:
            try:
                action()
            except Exception as error:
                self.error = error


def _write_shards(engine: Any, folder: Path) -> None:
    writer = _Writer(engine.checkpoint_engine)
    # DeepSpeed copies a conversion script into every checkpoint, where a full disk would show on rank 0 alone.
    engine.checkpoint_engine, engine._copy_recovery_script = writer, lambda _: None
    try:
        engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)
    finally:
        engine.checkpoint_engine = writer.writer
        del engine._copy_recovery_script
    if writer.error is not None:
        raise writer.error


def _load_shards(accelerator: Any, folder: Path, saved_ranks: int) -> None:
    engine = accelerator._models[0]
    sharded = (folder / TAG).glob("*zero_pp_rank_*_optim_states.pt")
    if saved_ranks != accelerator.num_processes and any(sharded):
        universal.load(engine, folder, TAG, saved_ranks)
        return
    path, _ = engine.load_checkpoint(str(folder), tag=TAG)
    if path is None:
        raise UserError(f"DeepSpeed found nothing to load in {folder / TAG}", f"delete {folder} and run it again")


def _random_state(device: torch.device) -> dict[str, Any]:
    """Python's, NumPy's and torch's random numbers, as what torch loads without running code."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": [name, [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _load_random(folder: Path, rank: int, saved_ranks: int, device: torch.device) -> None:
    """Go on with this rank's random numbers; a rank that was not there before draws its own from rank 0's."""
    known = rank < saved_ranks
    path = folder / f"random-{rank if known else 0}.pt"
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    numbers: Tensor = state["torch"]
    torch.set_rng_state(numbers)
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    if not known:
        torch.manual_seed(int(torch.randint(2**62, ())) + rank)
