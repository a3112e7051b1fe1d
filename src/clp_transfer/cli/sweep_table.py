"""The rows of a sweep: one JSON file per member, and the table that its command prints at the end."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from clp_transfer.errors import UserError
from clp_transfer.files import read_json, write_json

OWN = "CLP_TRANSFER_SWEEP"  # names the sweep to its members, on whatever machine they are
NOT_FINISHED, KILLED = os.EX_TEMPFAIL, (-9, 137)


@dataclass
class Row:
    """One member: its overrides, and its exit status and seconds once it has ended."""

    overrides: str
    stage: str
    status: int | None = None
    seconds: float = 0.0

    @property
    def state(self) -> str:
        """How it ended, in words."""
        if self.status is None:
            return "ended without a word: killed, or out of memory"
        if self.status in KILLED:
            return "killed, perhaps out of memory (status 137)"
        if self.status == NOT_FINISHED:
            return "saved and stopped (status 75)"
        return f"status {self.status}" if self.status else "complete"


@dataclass
class Sweep:
    """The sweep that this process has started, if it has."""

    folder: Path | None = None


current = Sweep()


class Members(Callback):
    """Hydra's callback: names the sweep before its members start, and gives them a W&B group of their own."""

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """The name follows from the command, so that the same one goes on in the same folder and the same group."""
        from clp_transfer.cli.screen import one_screen
        from clp_transfer.cli.sweep_clashes import refuse_clashes

        with one_screen():  # which ends the process: Hydra makes warnings of a callback's errors
            refuse_clashes(config.hydra.job.config_name, config)
        command = " ".join(sorted(o for o in config.hydra.overrides.task if not o.startswith("cluster")))
        name = f"{config.hydra.job.name}-{hashlib.sha256(command.encode()).hexdigest()[:8]}"
        current.folder = (Path(config.paths.outputs) / config.name / "sweeps" / name).absolute()
        for path in current.folder.glob("*.json"):
            path.unlink()
        os.environ[OWN] = str(current.folder)
        os.environ.setdefault("WANDB_RUN_GROUP", f"{config.name}/{name}")


def note(root: Path, row: Row) -> None:
    """Write a member's row where the sweep's command looks for it."""
    folder = Path(os.environ.get(OWN, str(root / "sweeps" / time.strftime("%Y%m%d"))))
    write_json(folder / f"{hashlib.sha256(row.overrides.encode()).hexdigest()[:12]}.json", asdict(row))


@contextmanager
def lost_jobs() -> Iterator[None]:
    """Tell it as a user's error where submitit finds that a job ended without a result."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("submitit"):
            raise
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"a job of the sweep ended without a result: {first}",
            "the other jobs go on; the same command runs only what is missing",
        ) from error


def rows() -> list[Row]:
    """The rows of the sweep that this process has started, by their overrides."""
    if current.folder is None:
        return []
    return sorted((Row(**read_json(path)) for path in current.folder.glob("*.json")), key=lambda row: row.overrides)


def table(found: list[Row]) -> str:
    """A line per member, without the overrides that all have."""
    split = [row.overrides.split(" ") for row in found]
    shared = set.intersection(*map(set, split)) if len(split) > 1 else set()
    names = [" ".join(o for o in one if o not in shared) for one in split]
    width = max(map(len, names), default=0)
    return "\n".join(
        f"{name.ljust(width)}  {f'{row.seconds:.0f} s':>8}  {row.state}" for name, row in zip(names, found, strict=True)
    )
