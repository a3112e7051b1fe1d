"""What two ranks do in tests: they train or evaluate, and note what they hold, are told, and who wrote which file."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from tiny.processes import run_ranks

MASKS = (0o022, 0o027)  # of rank 0 and the others: the permissions of a file then say who wrote it
OTHERS = 0o640


def on_two_ranks(work: Any, job: Any, folder: Path) -> list[Any]:
    """What each of two ranks finds, that does the work (a function of this file) on the job."""
    folder.mkdir(parents=True)
    assert run_ranks(2, note, work, job, folder) == [0, 0], f"a rank of {folder.name} failed: its traceback is above"
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def note(work: Any, job: Any, folder: Path) -> None:
    """Do the work on this rank and note what it finds."""
    rank = int(os.environ["RANK"])
    os.umask(MASKS[rank > 0])
    (folder / f"{rank}.json").write_text(json.dumps(work(job)))


def train_with_own_seed(job: Any) -> str:
    """A rank that was started with another seed; what it is told."""
    from dataclasses import replace

    from clp_transfer.errors import UserError
    from clp_transfer.train import run as stage

    try:
        stage.train(replace(job, seed=int(os.environ["RANK"])))
    except UserError as error:
        return error.problem
    return "nothing"


def train(job: Any) -> dict[str, Any]:
    """Train the job; returns what this rank holds at the end and, from rank 0, who wrote what."""
    from clp_transfer.train import engine, loop
    from clp_transfer.train import run as stage

    loops: list[Any] = []
    run_loop = loop.Loop.run

    def recorded(self: Any) -> Any:
        loops.append(self)
        return run_loop(self)

    loop.Loop.run = recorded  # type: ignore[method-assign]
    written: dict[str, Any] = {}
    if os.environ["RANK"] == "0":
        sys.addaudithook(
            lambda event, values: event == "os.rename" and who_wrote(Path(os.fsdecode(values[0])), written)
        )
    stage.train(job)
    return {"held": engine.held(loops[0].module, loops[0].optimizer), "written": written}


def evaluate(job: Any) -> str:
    """Evaluate the job; returns the mistake that this rank is told of, if any."""
    from clp_transfer.errors import UserError
    from clp_transfer.evaluate.run import evaluate as stage

    try:
        stage(job)
    except UserError as error:
        return error.problem
    return ""


def who_wrote(renamed: Any, written: dict[str, Any]) -> None:
    """Note, when a folder gets its final name, its files by writer: rank 0, or the others."""
    folder = Path(os.fsdecode(renamed))
    if folder.is_dir():
        modes = {str(p.relative_to(folder)): stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*") if p.is_file()}
        others = sorted(name for name, mode in modes.items() if mode == OTHERS)
        written[folder.name] = {"rank 0": sorted(modes.keys() - set(others)), "others": others}


PORTIONS = [(1, 2), (1, 2), (3, 1), (3, 1)]  # of each step of `accumulate`: micro-batches a rank, rows of each


def accumulate(job: Any) -> list[float]:
    """Two steps of one micro-batch and two of three, by plain gradient descent; returns the weights."""
    import torch

    from clp_transfer.train import engine

    model, rank = start(), int(os.environ["RANK"])
    accelerator = engine.build(job, 1, 2, width=0)
    wrapped, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.5))
    for step, (accumulation, micro_batch) in enumerate(PORTIONS):
        if step == 2:
            engine.set_accumulation(accelerator, wrapped, accumulation, micro_batch)
        for inputs in batch(step)[rank::2].split(micro_batch):
            with accelerator.accumulate(wrapped):
                accelerator.backward(wrapped(inputs).square().mean())
                optimizer.step()
                optimizer.zero_grad()
    return accelerator.get_state_dict(wrapped)["weight"].flatten().tolist()


def start() -> Any:
    """The model that `accumulate` trains, as it begins."""
    import torch

    torch.manual_seed(1)
    return torch.nn.Linear(8, 8, bias=False)


def batch(step: int) -> Any:
    """Inputs [rows, 8] of a step, over both ranks."""
    import torch

    accumulation, micro_batch = PORTIONS[step]
    return torch.randn(2 * accumulation * micro_batch, 8, generator=torch.Generator().manual_seed(step))
