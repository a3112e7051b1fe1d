"""What all ranks do together: an error on one is raised on every one, so that none waits for another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from clp_transfer.errors import UserError, write_failed

T = TypeVar("T")


class WriteFailed(Exception):
    """A rank could not write to the disk (full, over quota, gone); raised on every rank."""


class RankFailed(Exception):
    """Another rank failed in what all ranks do together; that rank has the traceback."""


def ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return dist.get_rank() if ranks() > 1 else 0


def gather(value: Any) -> list[Any]:
    """The value of every rank, in their order, on every rank."""
    if ranks() == 1:
        return [value]
    values: list[Any] = [None] * ranks()
    dist.all_gather_object(values, value)
    return values


def agree(values: dict[str, Any]) -> None:
    """Raise UserError on every rank where one has other values than rank 0: settings, or hashes of data."""
    first, *others = gather(values)
    for number, other in enumerate(others, start=1):
        if differing := [key for key in first if first[key] != other.get(key)]:
            key = differing[0]
            raise UserError(
                f"rank {number} differs from rank 0 in {', '.join(differing)}: {other.get(key)} and {first[key]}",
                "start every rank with the same command, environment and data",
            )


def together(action: Callable[[], T]) -> T:
    """Do the action on every rank and wait for all; returns this rank's result.

    Where it fails on any rank it raises on all: WriteFailed where the disk refused, UserError where a rank raised
    that, else the rank's own error there and RankFailed on the others. The action must not wait for other ranks
    between two places where it can fail.
    """
    result, error = None, None
    try:
        result = action()
    except Exception as caught:
        error = caught
    told = None if error is None else (_kind(error), _text(error))
    failures = [(number, *found) for number, found in enumerate(gather(told)) if found is not None]
    if not failures:
        return result  # type: ignore[return-value]
    number, kind, text = failures[0]
    where = f"rank {number}: " if ranks() > 1 else ""
    if all(kind == "write" for _, kind, _ in failures):
        raise WriteFailed(f"{where}{text}") from error
    if error is not None and _kind(error) != "write":
        raise error
    number, kind, text = next(f for f in failures if f[1] != "write")
    raise UserError(*text) if kind == "user" else RankFailed(f"rank {number}: {text}")


def on_main(action: Callable[[], T]) -> T:
    """Do the action on rank 0 alone; its result, or its error, reaches every rank."""
    return gather(together(action if rank() == 0 else lambda: None))[0]  # type: ignore[arg-type, no-any-return]


def _kind(error: Exception) -> str:
    if isinstance(error, UserError):
        return "user"
    return "write" if isinstance(error, OSError) or write_failed(error) else "bug"


def _text(error: Exception) -> Any:
    if isinstance(error, UserError):
        return error.problem, error.remedy
    return (str(error).splitlines() or [""])[0][:300] or type(error).__name__
