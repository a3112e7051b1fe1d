"""The processes that a launcher has started, as a group, for as long as they measure together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from clp_transfer.errors import UserError


@contextmanager
def group() -> Iterator[str]:
    """Join the other ranks of torchrun or accelerate; gives this rank's device. Alone, there is nothing to join.

    Of the ranks only counts and sums travel, so that gloo does on GPUs too. Raises UserError where they do not meet.
    """
    joined = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if joined:
        try:
            dist.init_process_group("gloo")
        except (dist.DistError, ValueError) as error:
            address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise UserError(
                f"the ranks cannot meet at {address}: {str(error).splitlines()[0]}",
                "another job may hold that port: choose one with torchrun --master_port",
            ) from error
    try:
        yield _device()
    finally:
        if joined:
            dist.destroy_process_group()


def _device() -> str:
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
