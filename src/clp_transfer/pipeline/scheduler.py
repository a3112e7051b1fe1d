"""Runs steps as soon as what they need is complete, a few at a time; complete ones are skipped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.manifest import Plan, is_complete, is_done
from clp_transfer.pipeline.process import Child
from clp_transfer.pipeline.steps import Step
from clp_transfer.pipeline.stopping import Stopped, stopping

log = logging.getLogger(__name__)
SAVING = 40.0  # seconds for all steps together to end: a checkpoint of a billion bytes each, written and hashed


def run_steps(
    steps: list[Step],
    job_of: Callable[[Step], Any],
    command_of: Callable[[Step], list[str]],
    logs: Path,
    workers: int,
    *,
    seconds: float | None = None,
) -> list[str]:
    """Bring every step to completion, in order where `needs` says so; returns the names of those that ran.

    A step is complete when its output's manifest has the key of the job's plan; one in which a task failed is
    run once more. When a step fails, the running ones finish, nothing new starts, and UserError names it and its log:
    what is complete stays complete. SIGTERM, and the end of `seconds`, is passed on to the running ones: training saves
    a checkpoint, and `Stopped` ends the process with status 75.
    """
    with stopping(seconds):
        return _run_steps(steps, job_of, command_of, logs, workers)


def _run_steps(
    steps: list[Step],
    job_of: Callable[[Step], Any],
    command_of: Callable[[Step], list[str]],
    logs: Path,
    workers: int,
) -> list[str]:
    waiting, done, failed = list(steps), set[str](), list[Child]()
    ready: list[tuple[Step, Plan]] = []  # needs complete, own result not: checked once, a check composes a config
    running: list[tuple[Step, Plan, Child, float]] = []
    ran: list[str] = []
    width = max((len(step.name) for step in steps), default=0)
    try:
        while waiting or ready or running:
            for step in [s for s in waiting if not failed and done.issuperset(s.needs)]:
                waiting.remove(step)
                job = job_of(step)
                plan = job.plan()
                if is_done(job, plan):
                    done.add(step.name)
                else:
                    ready.append((step, plan))
            while ready and not failed and len(running) < max(1, workers):
                step, plan = ready.pop(0)
                command = command_of(step)
                log.info("%s ▶ %s", step.name.ljust(width), _shown(command))
                child = Child(
                    step.name, command, logs / f"{step.name.replace(' ', '-')}.log", f"{step.name.ljust(width)} │"
                )
                running.append((step, plan, child, time.time()))
            if failed and not running:
                break
            if running:
                time.sleep(0.1)
            for entry in [e for e in running if e[2].finished() is not None]:
                running.remove(entry)
                step, plan, child, started = entry
                if child.finished() == 0 and is_complete(plan):
                    done.add(step.name)
                    ran.append(step.name)
                    log.info("%s ✔ %.0f s", step.name.ljust(width), time.time() - started)
                else:
                    failed.append(child)
    except Stopped:
        left = len(steps) - len(done)
        log.info("stopped: %d of %d steps are left; the same command goes on from here", left, len(steps))
        raise
    finally:
        _end([child for _, _, child, _ in running])
    if failed:
        raise _failure(failed[0])
    return ran


def _end(children: list[Child]) -> None:
    """End what runs, all at once: each saves meanwhile what it can."""
    for child in children:
        child.ask_to_stop()
    until = time.time() + SAVING
    for child in children:
        child.stop(until - time.time())


def _failure(child: Child) -> UserError:
    """What to tell the user about the first step that failed."""
    if child.finished() == 0:
        return UserError(
            f"the step {child.name!r} ended well, but its result is not what was planned for it",
            "was a config or a file changed while it ran? Run the same command again",
        )
    return UserError(
        f"the step {child.name!r} failed (status {child.finished()}); what it printed: {child.log_file}",
        "mend what it says and run the same command again: complete steps are skipped",
    )


def _shown(command: list[str]) -> str:
    """The command as a person would type it."""
    return " ".join(["python", Path(command[1]).name, *command[2:]])
