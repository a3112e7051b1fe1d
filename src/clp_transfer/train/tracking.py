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
    """Rank 0's record of a run. W&B never stops training: whatever it raises is logged and W&B is left out."""

    def __init__(self, job: TrainJob, metrics: Path, keep_bytes: int, main_process: bool) -> None:
        self.enabled = main_process
        self.metrics = metrics
        self.run: Any = None
        if not main_process:
            return
        metrics.touch()
        # Lines written after the checkpoint that is resumed from will be written again.
        os.truncate(metrics, min(keep_bytes, metrics.stat().st_size))
        if job.wandb.mode != "disabled":
            self.run = _start_wandb(job)

    def log(self, record: dict[str, Any]) -> None:
        """Append one record; `kind` becomes the W&B section, `tokens` its x axis; what is not finite is null."""
        if not self.enabled:
            return
        record = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.run is not None:
            values = {f"{record['kind']}/{k}": v for k, v in record.items() if k not in ("kind", "tokens")}
            self._guard(lambda: self.run.log({"tokens": record["tokens"], **values}))

    def size(self) -> int:
        """Bytes of metrics written so far, flushed."""
        return self.metrics.stat().st_size if self.enabled else 0

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
