"""Each stage: its job from the config, then one library call. Heavy imports wait until the job is known to be sound."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable
from typing import Any

from clp_transfer.config import jobs
from clp_transfer.config.schema import Config
from clp_transfer.evaluate.job import Step0Job
from clp_transfer.manifest import is_done

log = logging.getLogger(__name__)


def prepare(config: Config) -> None:
    """Fetch, split, tokenise and pack the texts."""
    job = jobs.prepare_job(config)
    if not _done(job):
        from clp_transfer.prepare.run import prepare as run

        run(job)


def clp(config: Config) -> None:
    """Initialise the target model."""
    job = jobs.transfer_job(config)
    if not _done(job):
        # Threads that wait for one another burn what other programs leave of the processors: 27 s in place of 0.3.
        # A thousand turns, some microseconds, are no such waste, and small blocks need them: omp's 25 s are 30 without.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        # Imports and vocabularies make a million objects that all stay; looking for circles among them takes a second.
        gc.set_threshold(100_000)
        from clp_transfer.clp.run import transfer

        transfer(job)
    if config.explain is not None:
        from clp_transfer.clp.run import explain_text

        log.info("%s", explain_text(job, config.explain))


def train(config: Config) -> float | None:
    """Pretrain a model; returns its held-out bits per byte, for sweeps."""
    job = jobs.train_job(config)
    if _done(job):
        return None
    from clp_transfer.train.run import train as run

    return run(job)["final"]["bits_per_byte"]


def evaluate(config: Config) -> None:
    """Measure a trained model, or every method's start."""
    job = jobs.evaluate_job(config)
    if _done(job):
        return
    if isinstance(job, Step0Job):
        from clp_transfer.evaluate.step0 import step0

        step0(job)
    else:
        from clp_transfer.evaluate.run import evaluate as run

        run(job)


def report(config: Config) -> None:
    """Merge everything into one page."""
    job = jobs.report_job(config)
    if not _done(job):
        from clp_transfer.report.run import report as run

        run(job)


def _done(job: Any) -> bool:
    """Whether the job's result already stands; says so."""
    plan = job.plan()
    done = is_done(job, plan)
    if done:
        log.info("%s is complete and unchanged: nothing to do", plan.out)
    return done


STAGES: dict[str, Callable[[Config], Any]] = {
    "prepare": prepare,
    "clp": clp,
    "train": train,
    "evaluate": evaluate,
    "report": report,
}
JOBS: dict[str, Callable[[Config], Any]] = {
    "prepare": jobs.prepare_job,
    "clp": jobs.transfer_job,
    "train": jobs.train_job,
    "evaluate": jobs.evaluate_job,
    "report": jobs.report_job,
}
