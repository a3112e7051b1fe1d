"""What was submitted, and when: `submissions/<time>/jobs.json` below an experiment's folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from clp_transfer.files import read_json, write_json

FOLDER, RECORD = "submissions", "jobs.json"


@dataclass
class Job:
    """A step of a submission. `job`: SLURM's id; null: its result was there already. `out`: where its result goes."""

    step: str
    slug: str
    out: str
    job: str | None = None
    needs: list[str] = field(default_factory=list)


@dataclass
class Submission:
    """One call of `make submit`."""

    folder: Path
    revision: str
    jobs: list[Job] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """SLURM's ids, in the order of the steps."""
        return [job.job for job in self.jobs if job.job is not None]

    def log(self, job: Job) -> Path:
        """What the job prints."""
        return self.folder / "logs" / f"{job.slug}.log"

    def ended(self, job: Job) -> int | None:
        """The exit status that the job's script noted at its end; None before that, and for one that was killed."""
        path = self.folder / "ended" / job.slug
        text = path.read_text().strip() if path.is_file() else ""
        return int(text) if text.isdigit() else None

    def save(self) -> None:
        """Write the record."""
        write_json(self.folder / RECORD, {"revision": self.revision, "jobs": [asdict(job) for job in self.jobs]})


def last(root: Path) -> Submission | None:
    """The experiment's last submission that was recorded; None where there is none."""
    folders = sorted(path.parent for path in (root / FOLDER).glob(f"*/{RECORD}"))
    if not folders:
        return None
    record = read_json(folders[-1] / RECORD)
    return Submission(folders[-1], record["revision"], [Job(**job) for job in record["jobs"]])
