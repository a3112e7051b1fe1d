"""Real processes that start in milliseconds: forks of a server that has imported the packages once.

They can be killed, and stand for the ranks of a launcher. What they do is in this module, because they import it.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PACKAGES = ["torch._dynamo", "transformers.generation", "accelerate", "deepspeed", "clp_transfer.train.run"]
PACKAGES += [f"transformers.models.{family}.modeling_{family}" for family in ("gpt2", "llama")]
server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(PACKAGES)


def start(work: Callable[..., Any], *arguments: Any, environment: dict[str, str] | None = None) -> ForkServerProcess:
    """A process that does the work; its exit status is 0 if that ended well."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    process = server.Process(target=_enter, args=(environment or {}, work, *arguments), daemon=True)
    process.start()
    return process


def run_ranks(count: int, work: Callable[..., Any], *arguments: Any, seconds: float = 120) -> list[int | None]:
    """Do the work on so many ranks, as under a launcher; their exit statuses, in order (None: it hung)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    started = []
    for rank in range(count):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        environment = meeting | {key: str(value) for key, value in place.items()} if count > 1 else {}
        started.append(start(work, *arguments, environment=environment))
    for process in started:
        process.join(seconds)
    statuses = [process.exitcode for process in started]
    for process in started:
        process.kill()
    return statuses


def _enter(environment: dict[str, str], work: Callable[..., Any], *arguments: Any) -> None:
    os.environ.update(environment)
    try:
        work(*arguments)
    except Exception:
        traceback.print_exc()
        os._exit(1)
    except SystemExit as end:
        os._exit(int(end.code or 0))


def train_job(job: Any) -> None:
    """Train a job to its end."""
    from clp_transfer.train.run import train

    train(job)


class Enough(Exception):
    """The part of a run that was asked for is done."""


def train_until(job: Any, step: int) -> None:
    """Train a job up to a step, save there, and stop as if killed."""
    from clp_transfer.train.loop import Loop

    take = Loop.step

    def stopping(self: Any, number: int) -> Any:
        if number == step:
            self.save(step)
            os._exit(0)
        return take(self, number)

    Loop.step = stopping  # type: ignore[method-assign]
    train_job(job)


def train_with_a_full_disk(job: Any, full_rank: int, files: int) -> None:
    """Train a job on a disk that is full, for one rank, once that has written so many files."""
    import torch

    write, written = torch.save, []

    def refusing(*arguments: Any, **options: Any) -> Any:
        written.append(arguments)
        if int(os.environ.get("RANK", "0")) == full_rank and len(written) > files:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments, **options)

    torch.save = refusing
    train_job(job)


def fail_together(folder: Path) -> None:
    """On rank 1 of two an action fails; each rank notes what it was told."""
    import torch

    from clp_transfer.errors import UserError
    from clp_transfer.train import together

    torch.distributed.init_process_group("gloo")
    rank = together.rank()

    def action(error: Exception) -> int:
        if rank == 1:
            raise error
        return rank

    told = []
    for error in (OSError(errno.ENOSPC, "No space left on device"), UserError("wrong", "mend it"), ValueError("a bug")):
        try:
            together.together(partial(action, error))
            told.append("nothing")
        except Exception as caught:
            told.append(f"{type(caught).__name__}: {caught}")
    told.append(str(together.together(lambda: rank)))
    told.append(str(together.gather(rank * 10)))
    told.append(together.on_main(lambda: f"from {rank}"))
    (folder / f"{rank}.txt").write_text("\n---\n".join(told))


def agree_on_a_signal(folder: Path) -> None:
    """Rank 1 of two is sent SIGUSR1 in its second step; each rank notes when it knows."""
    import signal

    import torch

    from clp_transfer.train.signals import Requests

    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    accelerator = SimpleNamespace(device=torch.device("cpu"), is_main_process=rank == 0)
    answers = []
    with Requests() as requests:
        for step in range(3):
            if rank == 1 and step == 1:
                os.kill(os.getpid(), signal.SIGUSR1)
            answers.append(requests.any_rank(accelerator, due=step == 2 and rank == 0))
    (folder / f"{rank}.txt").write_text(repr(answers))
