"""The SLURM path: a stand-in for `sbatch` keeps what it is given, and the tasks then run as on a node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.clean import Submitted, removals
from clp_transfer.prepare.job import CleanConfig, ClusterConfig

from .conftest import Corpus

pytest.importorskip("datatrove")
CONFIG = CleanConfig(filters=["gopher_quality"], near=True)

SBATCH = """#!/bin/bash
count=$(ls "$FAKE" | grep -c script)
[ -e "$FAKE/refuse" ] && { echo "invalid partition" >&2; exit 1; }
cp "${@: -1}" "$FAKE/script-$count"
printf '%s\\n' "${@:1:$#-1}" > "$FAKE/arguments-$count"
echo "Submitted batch job $((100 + count))"
"""
SQUEUE = """#!/bin/bash
grep -qx "$3" "$FAKE/queue" 2>/dev/null && { echo "$3"; exit 0; }
echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1
"""


class FakeSlurm:
    """The programs of SLURM as far as they are used, and what was submitted to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, script in (("sbatch", SBATCH), ("squeue", SQUEUE), ("scontrol", "#!/bin/bash\necho node1\n")):
            (folder / "bin").mkdir(parents=True, exist_ok=True)
            (folder / "bin" / name).write_text(script)
            (folder / "bin" / name).chmod(0o755)

    def scripts(self) -> list[str]:
        return [path.read_text() for path in sorted(self.folder.glob("script-*"))]

    def arguments(self) -> list[list[str]]:
        return [path.read_text().split("\n")[:-1] for path in sorted(self.folder.glob("arguments-*"))]

    def queue(self, *jobs: int) -> None:
        (self.folder / "queue").write_text("".join(f"{job}\n" for job in jobs))

    def work_off(self, logs: Path, monkeypatch: pytest.MonkeyPatch, leave_out: int | None = None) -> None:
        """Do what `launch_pickled_pipeline` does on a node, for every task of an array."""
        import dill

        monkeypatch.setenv("SLURM_NODELIST", "node1")
        for task in range(len(json.loads((logs / "ranks_to_run.json").read_text()))):
            if task != leave_out:
                monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
                dill.loads((logs / "executor.pik").read_bytes()).run()
        monkeypatch.delenv("SLURM_ARRAY_TASK_ID")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(fake.folder))
    handler = signal.getsignal(signal.SIGUSR1)
    yield fake
    signal.signal(signal.SIGUSR1, handler)  # a task of datatrove sets its own


def cluster(**options: object) -> ClusterConfig:
    return ClusterConfig(name="slurm", **options)  # type: ignore[arg-type]


def test_submits_one_array_a_step(corpus: Corpus, tmp_path: Path, slurm: FakeSlurm) -> None:
    config = cluster(
        partition="cpu", account="p123", time="01:30:00", memory_gb_per_cpu=6, workers=2, setup="ml Python"
    )
    with pytest.raises(
        Submitted, match=r"100, 101, 102, 103; tasks to do: clp-clean-filters \(3\).*near-buckets \(14\)"
    ):
        removals(corpus.chunks, CONFIG, "de", tmp_path / "work", config, None)
    scripts = slurm.scripts()
    lines = scripts[0].splitlines()
    for option in (
        "partition=cpu",
        "account=p123",
        "time=01:30:00",
        "mem-per-cpu=6G",
        "cpus-per-task=1",
        "array=0-2%2",
        "job-name=clp-clean-filters",
        "kill-on-invalid-dep=yes",
    ):
        assert f"#SBATCH --{option}" in lines
    assert not any("qos" in line or "mail" in line for line in lines)
    body = [line.strip() for line in lines if not line.startswith("#")]
    pickled = tmp_path / "work/datatrove/filters/executor.pik"
    assert body.index("ml Python") < body.index(f"srun  -l -n 1 launch_pickled_pipeline {pickled}")
    assert "#SBATCH --cpus-per-task=8" in scripts[3]  # the clusters need memory
    after = [[a for a in arguments if "dependency" in a] for arguments in slurm.arguments()]
    assert after == [[], *([f"--dependency=afterok:{job}"] for job in (100, 101, 102))]
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_defaults_name_no_partition_and_this_python(corpus: Corpus, tmp_path: Path, slurm: FakeSlurm) -> None:
    with pytest.raises(Submitted):
        removals(corpus.chunks, CleanConfig(filters=["c4_quality"]), "de", tmp_path / "work", cluster(), None)
    (script,) = slurm.scripts()
    assert "partition" not in script and "account" not in script and "#SBATCH --array=0-2\n" in script
    assert f'export PATH="{Path(sys.executable).parent}:$PATH"' in script


def test_the_same_command_goes_on(
    corpus: Corpus, tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run() -> dict[int, dict[int, str]]:
        return dict(removals(corpus.chunks, CONFIG, "de", tmp_path / "work", cluster(), None).rows)

    logs = tmp_path / "work/datatrove"
    with pytest.raises(Submitted):
        run()
    assert capfd.readouterr() == ("", "")
    slurm.queue(101, 103)
    with pytest.raises(Submitted, match=r"(?s)not done yet: 101, 103; .*run the same command again"):
        run()
    assert len(slurm.scripts()) == 4  # nothing is submitted twice
    slurm.work_off(logs / "filters", monkeypatch)
    slurm.work_off(logs / "near-signatures", monkeypatch, leave_out=1)
    slurm.queue()
    with pytest.raises(
        Submitted, match=r"104, 105, 106; tasks to do: clp-clean-near-signatures \(1\).*left this undone"
    ):
        run()
    assert "#SBATCH --array=0-0\n" in slurm.scripts()[4]
    for step in ("near-signatures", "near-buckets", "near-clusters"):
        slurm.work_off(logs / step, monkeypatch)
    slurm.queue()
    here = removals(corpus.chunks, CONFIG, "de", tmp_path / "here", ClusterConfig(workers=1), None)
    assert run() == dict(here.rows)
    assert len(slurm.scripts()) == 7


def test_what_can_go_wrong(corpus: Corpus, tmp_path: Path, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        removals(corpus.chunks, CONFIG, "de", tmp_path / "work", cluster(), None)

    (slurm.folder / "refuse").touch()
    with pytest.raises(UserError, match=r"(?s)sbatch refused.*cluster\.partition"):
        run()
    (slurm.folder / "refuse").unlink()
    with pytest.raises(Submitted, match="on the cluster: 100, 101, 102, 103"):
        run()
    (slurm.folder / "bin/squeue").write_text("#!/bin/bash\necho 'cannot reach the controller' >&2; exit 1\n")
    with pytest.raises(UserError, match="squeue does not answer: cannot reach"):
        run()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="no `sbatch`"):
        run()
