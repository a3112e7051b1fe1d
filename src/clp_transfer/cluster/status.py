"""Where the jobs of a submission are, as a table."""

from __future__ import annotations

from pathlib import Path

from clp_transfer.cluster import slurm
from clp_transfer.cluster.submission import Job, Submission
from clp_transfer.manifest import read

HEADINGS = ("step", "job", "state", "complete", "last line of its log")
TAIL_BYTES, LONGEST = 4096, 90


def status_table(submission: Submission) -> str:
    """A row per step: SLURM's id, the state, whether the result is whole, the last line that it printed."""
    queued, ended = slurm.queue(submission.ids), slurm.history(submission.ids)
    rows = [HEADINGS]
    for job in submission.jobs:
        there = read(Path(job.out)) is not None
        state = _state(submission, job, queued, ended)
        finished = job.job is None or state == "COMPLETED"
        rows.append(
            (job.step, job.job or "–", state, "yes" if there and finished else "no", last_line(submission.log(job)))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _state(submission: Submission, job: Job, queued: dict[str, slurm.Queued], ended: dict[str, str]) -> str:
    """The queue's word, else what the script noted, else the accounting's, else what must have happened."""
    if job.job is None:
        return "was complete"
    if job.job in queued:
        found = queued[job.job]
        return f"{found.state} {found.reason}".strip()
    status = submission.ended(job)
    if status is not None:
        return "COMPLETED" if status == 0 else f"FAILED (status {status})"
    return ended.get(job.job, "killed or cancelled" if submission.log(job).exists() else "never started")


def last_line(log: Path) -> str:
    """The last line of a log that says something, which srun's report of a failure does not; empty for none."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    return next((line[:LONGEST] for line in reversed(lines) if line and not line.startswith("srun: ")), "")
