"""Where the numbers go: always to JSON lines on the disk, and to Weights & Biases when it answers."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from pathlib import Path
from typing import Any

from clp_transfer.train.job import TrainJob

log = logging.getLogger(__name__)


class Tracker:
    """Rank 0's record of a run. W&B never stops training: whatever it raises is logged and W&B is left out. Nor does a
    full disk: lines that it does not take wait for room.
    """

    def __init__(self, job: TrainJob, metrics: Path, keep_bytes: int, main_process: bool) -> None:
        self.enabled = main_process
        self.metrics = metrics
        self.run: Any = None
        if not main_process:
            return
        self.waiting = b""  # lines that the disk has not taken
        metrics.touch()
        self.written = _cut(metrics, keep_bytes)
        if job.wandb.mode != "disabled":
            self.run = _start_wandb(job)

    def log(self, record: dict[str, Any]) -> None:
        """Append one record; `kind` becomes the W&B section, `tokens` its x axis; what is not finite is null."""
        if not self.enabled:
            return
        record = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        told = bool(self.waiting)
        self.waiting += (json.dumps(record) + "\n").encode()
        try:
            self._write()
        except OSError as error:
            if not told:
                log.warning("%s cannot be written (%s); training goes on, its lines wait for room", self.metrics, error)
        if self.run is not None:
            values = {f"{record['kind']}/{k}": v for k, v in record.items() if k not in ("kind", "tokens")}
            self._guard(lambda: self.run.log({"tokens": record["tokens"], **values}))

    def sync(self) -> int:
        """Bring all lines to the disk, as a checkpoint counts on them; returns their bytes. Raises OSError."""
        if not self.enabled:
            return 0
        self._write()
        with self.metrics.open("rb") as file:
            os.fsync(file.fileno())
        return self.written

    def _write(self) -> None:
        """Append what waits, whole or not at all."""
        try:
            with self.metrics.open("ab") as file:
                file.write(self.waiting)
        except OSError:
            os.truncate(self.metrics, self.written)
            raise
        self.written += len(self.waiting)
        self.waiting = b""

    def finish(self, summary: dict[str, Any]) -> None:
        """Close the W&B run with the run's summary."""
        if self.run is not None:
            self._guard(lambda: self.run.summary.update(summary))
            self._guard(lambda: self.run.finish())

    def _guard(self, call: Any) -> None:
        try:
            call()
        except Exception as error:
            log.warning("W&B failed (%s); training goes on, the metrics are in %s", error, self.metrics)
            self.run = None


def _cut(metrics: Path, keep_bytes: int) -> int:
    """Leave the lines that the checkpoint knows, as those after it will be written again; returns their bytes.

    Where a crash of the machine took the end of them, the last whole line is the last.
    """
    size = metrics.stat().st_size
    if size < keep_bytes:
        size = keep_bytes = metrics.read_bytes().rfind(b"\n") + 1
        log.warning("%s is shorter than when the checkpoint was saved: its last lines are lost", metrics)
    os.truncate(metrics, min(keep_bytes, size))
    return min(keep_bytes, size)


def _start_wandb(job: TrainJob) -> Any:
    """A W&B run whose id follows from the plan, so that a resumed run continues the same one; None if it fails."""
    os.environ.setdefault("WANDB_SILENT", "true")
    folder = job.out.parent.parent
    try:
        import wandb

        run = wandb.init(
            project=job.wandb.project,
            entity=job.wandb.entity,
            mode=job.wandb.mode,  # type: ignore[arg-type]
            name=job.name,
            group=os.environ.get("WANDB_RUN_GROUP") or job.group,  # a sweep has one of its own
            job_type=job.job_type,
            id=re.sub(r"[^\w-]+", "-", f"{job.name}-{job.plan().key[:12]}"),
            resume="allow" if job.wandb.mode == "online" else None,
            dir=str(folder),
            config=job.plan().settings | {"seed": job.seed, "language": job.language},
            settings=wandb.Settings(init_timeout=job.wandb.init_timeout, console="off", x_disable_stats=True),
        )
        run.define_metric("*", step_metric="tokens")
    except Exception as error:
        log.warning("W&B did not start (%s); going on without it, the metrics are on disk", error)
        return None
    return run
