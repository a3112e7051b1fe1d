"""The miniature on a real SLURM of one node: two ranks, interrupted in the middle, requeued, resumed, finished."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_end_to_end import overrides

ROOT = Path(__file__).resolve().parents[2]
SECONDS, STEPS = 170, 1200
CLUSTER = ("cluster=slurm", "cluster.tasks_per_node=2", "cluster.memory_gb_per_cpu=1", "cluster.time=10")


def command(script: str, *arguments: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), *arguments], capture_output=True, text=True, env=environment
    )
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


def steps(metrics: Path) -> list[int]:
    lines = metrics.read_text().splitlines() if metrics.is_file() else []
    records = [json.loads(line) for line in lines if line.endswith("}")]
    return [record["step"] for record in records if record["kind"] == "train"]


class Watch:
    """The queue over time; a line whenever it changes."""

    def __init__(self, folder: Path) -> None:
        self.seen, self.file, self.began = "", folder / "queue.txt", time.time()

    def look(self) -> str:
        asked = ["squeue", "--noheader", "--sort=i", "--format=%i %j %T %r"]
        states = " | ".join(subprocess.run(asked, capture_output=True, text=True).stdout.split("\n")[:-1])
        if states != self.seen:
            with self.file.open("a") as file:
                file.write(f"{time.time() - self.began:6.1f} s  {states or 'empty'}\n")
        self.seen = states
        assert time.time() - self.began < SECONDS, f"not finished: {states}\n{self.file.read_text()}"
        return states


@pytest.mark.slow
def test_the_chain_is_interrupted_requeued_resumed_and_finished(slurm: Path, tmp_path: Path) -> None:
    settings = [*overrides(tmp_path), *CLUSTER, "arms=[scratch,fvt]", "train.threads=1", "~pipeline.steps.step0"]
    settings += ["pipeline.steps.report.needs=[evaluate]"]
    settings.append(f"pipeline.steps.source.overrides=['run=source','budget.tokens={128 * STEPS}']")
    folder = tmp_path / "outputs" / "tiny"
    printed = command("submit.py", *settings)
    assert printed.startswith("0\n"), printed
    jobs = dict(re.findall(r"^(\d+) +(\S.*?)$", printed.partition("\n")[2], re.MULTILINE))
    names = {name: job for job, name in jobs.items()}
    assert list(names) == [
        *("data", "source", "helper", "init scratch 1", "init fvt 1", "train scratch 1", "train fvt 1"),
        *("evaluate scratch 1", "evaluate fvt 1", "report"),
    ]
    again = command("submit.py", *settings)
    assert again.startswith("2\n") and "still in the queue" in again and names["data"] in again

    watch, partial = Watch(tmp_path), folder / "runs" / "source.partial" / "metrics.jsonl"
    while len(steps(partial)) < 50:
        watch.look()
        time.sleep(0.05)
    subprocess.run(["scancel", "--signal=USR1", names["source"]], check=True)
    while f"{names['source']} tiny-source PENDING" not in watch.look():
        time.sleep(0.1)
    assert "init-fvt-1 PENDING Dependency" in watch.seen, "what waits for the interrupted job goes on waiting"
    before = steps(partial)
    assert before[-1] < STEPS, "it was interrupted in the middle"
    status = command("status.py", *settings)
    assert re.search(rf"^source +{names['source']} +PENDING.* no ", status, re.MULTILINE), status
    while watch.look():
        time.sleep(0.2)
    print(watch.file.read_text())

    log = next((folder / "submissions").glob("*/logs/source.log")).read_text()
    print(log)
    assert log.count("— source: job") == 2 and ", start 2," in log and "back into the queue" in log
    resumed = int(re.findall(r"going on from step (\d+)", log)[-1])
    assert resumed >= before[-1] > 0
    after = steps(folder / "runs" / "source" / "metrics.jsonl")
    assert after[: len(before)] == before and after == sorted(set(after)) and after[-1] == STEPS
    summary = json.loads((folder / "runs" / "source" / "summary.json").read_text())
    assert (summary["world_size"], summary["steps"]) == (2, STEPS)

    status = command("status.py", *settings)
    print(status)
    assert len(re.findall(r" COMPLETED +yes ", status)) == len(names), status
    assert (folder / "report" / "index.html").is_file()
    assert "Nothing to do: all 10 steps" in command("submit.py", *settings)
    assert "no job of" in command("cancel.py", *settings)
