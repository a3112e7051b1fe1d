"""The scheduler: order, skipping, failures, and children that die with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from clp_transfer.errors import UserError
from clp_transfer.manifest import Plan
from clp_transfer.pipeline.process import Child
from clp_transfer.pipeline.scheduler import run_steps
from clp_transfer.pipeline.steps import Step

WRITER = """
import sys, time
from pathlib import Path
from clp_transfer.manifest import Plan, writing
out, value, sleep = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
if value == "broken":
    raise SystemExit("cannot")
with writing(Plan("test", out, {"value": value})) as working:
    time.sleep(sleep)
    (working / "value").write_text(value)
"""


@dataclass
class Job:
    out: Path
    value: str

    def plan(self) -> Plan:
        return Plan("test", self.out, {"value": self.value})


class Bench:
    """Steps that each write one folder."""

    def __init__(self, root: Path, values: dict[str, str], sleep: float = 0) -> None:
        self.root, self.values, self.sleep = root, values, sleep

    def run(self, steps: list[Step], workers: int = 2) -> list[str]:
        return run_steps(
            steps,
            lambda s: Job(self.root / s.name, self.values.get(s.name, "x")),
            lambda s: [
                *(sys.executable, "-c", WRITER),
                *(str(self.root / s.name), self.values.get(s.name, "x"), str(self.sleep)),
            ],
            self.root / "logs",
            workers,
        )


STEPS = [
    Step("a", "test", []),
    Step("b", "test", [], ["a"]),
    Step("c", "test", [], ["a"]),
    Step("d", "test", [], ["b"]),
]


def test_complete_steps_are_skipped_and_changed_ones_run_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {})
    first = bench.run(STEPS)
    assert sorted(first) == ["a", "b", "c", "d"] and first.index("a") < first.index("b") < first.index("d")
    assert bench.run(STEPS) == []
    bench.values["c"] = "changed"
    assert bench.run(STEPS) == ["c"]
    assert (tmp_path / "c" / "value").read_text() == "changed"


def test_a_failure_names_the_step_and_its_log_and_keeps_the_rest(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"b": "broken"})
    with pytest.raises(UserError, match=r"'b' failed .*logs/b\.log"):
        bench.run(STEPS, workers=1)
    assert "cannot" in (tmp_path / "logs" / "b.log").read_text()
    assert (tmp_path / "a" / "manifest.json").is_file() and not (tmp_path / "d").exists()
    bench.values["b"] = "mended"
    assert "a" not in bench.run(STEPS)


def test_a_step_in_which_a_task_failed_runs_once_more(tmp_path: Path) -> None:
    @dataclass
    class Unlucky(Job):
        def has_failed_tasks(self) -> bool:
            return self.value == "unlucky"

    def run(value: str) -> list[str]:
        job = Unlucky(tmp_path / "a", value)
        command = [sys.executable, "-c", WRITER, str(job.out), value, "0"]
        return run_steps([Step("a", "evaluate", [])], lambda _: job, lambda _: command, tmp_path / "logs", 1)

    assert run("unlucky") == ["a"]
    assert (tmp_path / "a" / "manifest.json").is_file()
    assert run("unlucky") == ["a"]
    assert run("lucky") == ["a"] and run("lucky") == []


def test_a_screen_that_is_gone_does_not_stop_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", gone)
    code = "for i in range(30_000): print(f'line {i:05}')"  # many times what a pipe holds
    child = Child("x", [sys.executable, "-c", code], tmp_path / "log", "|")
    until = time.time() + 20
    while child.finished() is None and time.time() < until:
        time.sleep(0.05)
    child.stop(0)
    assert child.finished() == 0
    assert len((tmp_path / "log").read_text().splitlines()) == 30_000


def test_children_die_with_a_killed_scheduler(tmp_path: Path) -> None:
    """kill -9 leaves no writer behind, and what it was writing is not taken for complete."""
    code = (
        "import sys; from pathlib import Path\n"
        "from clp_transfer.pipeline.process import Child\n"
        "import time\n"
        f"child = Child('x', [sys.executable, '-c', 'import os,time; print(os.getpid(), flush=True); time.sleep(60)'],"
        f" Path({str(tmp_path)!r}) / 'log', '|')\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline().split()[-1])
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child outlived its parent")


SAVER = """
import signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
folder.mkdir(parents=True)
def save(number, frame):
    time.sleep(0.3)
    (folder / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
(folder / "began").touch()
time.sleep(60)
"""
CHAIN = """
import sys
from dataclasses import dataclass
from pathlib import Path
from clp_transfer.manifest import Plan
from clp_transfer.pipeline.process import Child
from clp_transfer.pipeline.scheduler import run_steps
from clp_transfer.pipeline.steps import Step
root, seconds, saver = Path(sys.argv[1]), float(sys.argv[2]) or None, sys.argv[3]
@dataclass
class Job:
    out: Path
    def plan(self):
        return Plan("test", self.out, {})
steps = [Step("a", "test", []), Step("b", "test", []), Step("c", "test", [], ["a"])]
command = lambda step: [sys.executable, "-c", saver, str(root / step.name)]
run_steps(steps, lambda step: Job(root / step.name), command, root / "logs", 2, seconds=seconds)
"""


@pytest.mark.parametrize("seconds", [0, 3])
def test_asked_to_stop_it_lets_what_runs_save_and_says_go_on(tmp_path: Path, seconds: int) -> None:
    """By SIGTERM, or when its time is over: both running steps are asked, none begins, the status is 75."""
    chain = subprocess.Popen(
        [sys.executable, "-c", CHAIN, str(tmp_path), str(seconds), SAVER],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    for _ in range(1000):
        if all((tmp_path / name / "began").exists() for name in "ab"):
            break
        time.sleep(0.02)
    if not seconds:
        chain.terminate()
    printed, _ = chain.communicate(timeout=30)
    assert chain.returncode == 75 and "Traceback" not in printed, printed
    assert all((tmp_path / name / "saved").exists() for name in "ab") and not (tmp_path / "c").exists()
