"""What is frozen, what is submitted in which order, what is refused: `make submit` on stand-ins for SLURM."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from clp_transfer.cli.schema import register, to_config
from clp_transfer.cluster import slurm
from clp_transfer.cluster.freeze import freeze_code, freeze_config, on_node
from clp_transfer.cluster.script import slug
from clp_transfer.cluster.status import last_line, status_table
from clp_transfer.cluster.submission import Job, Submission, last
from clp_transfer.config.schema import Config
from clp_transfer.pipeline.steps import expand
from clp_transfer.prepare.job import ClusterConfig

ROOT = Path(__file__).resolve().parents[2]

STAND_INS = {
    "sbatch": """
count=$(cat "$FAKE/count" 2>/dev/null || echo 100)
[ "$count" = "$REFUSE_AT" ] && { echo "Invalid account" >&2; exit 1; }
echo $((count + 1)) >"$FAKE/count"
echo "$*" >>"$FAKE/submitted"
echo "$count;cluster"
""",
    "squeue": """
jobs=${*##*--jobs=}
for job in ${jobs//,/ }; do grep "^$job|" "$FAKE/queue" 2>/dev/null; done
exit 0
""",
    "scancel": 'echo "$*" >>"$FAKE/cancelled"',
    "sacct": 'echo "Slurm accounting storage is disabled" >&2; exit 1',
}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of what the stand-ins were told; `queue` is what squeue then says."""
    tools = tmp_path / "fake" / "bin"
    tools.mkdir(parents=True)
    for name, body in STAND_INS.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tools.parent))
    return tools.parent


def command(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess:
    line = [
        sys.executable,
        str(ROOT / "scripts" / script),
        "experiment=mini",
        "arms=[fvt]",
        "paths.cache=cache",
    ]
    wheels = "data.corpora.de.sources.wiktionary={wheel: null, files: [texts.txt]}"
    english = "data.corpora.en.sources.wikipedia={wheel: null, files: [texts.txt]}"
    (folder / "texts.txt").write_text("ein Text\n")
    line += [wheels, english, "~data.models.smollm2", "~data.tokenizers.smollm2", "~data.packs.de-smollm2"]
    line += ["~pipeline.steps.step0", "pipeline.steps.report.needs=[evaluate]"]
    return subprocess.run([*line, *arguments], cwd=folder, capture_output=True, text=True)


def test_a_frozen_config_is_the_config(tmp_path: Path) -> None:
    """Composed from its file, every step's config is what it was, but for where it runs."""
    register()
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    overrides = ["experiment=mini", "cluster=slurm_gpu", "dry_run=true", "helper=[a,b]", "texts={news: [a.txt]}"]
    overrides += ["arms=[clp,fvt]", "~pipeline.steps.step0", "pipeline.steps.report.needs=[evaluate]"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        steps = expand(to_config(compose("submit", overrides=overrides)))
        configs = {s.name: (s, to_config(compose(s.stage, overrides=[*overrides, *s.overrides]))) for s in steps}
    for step, config in configs.values():
        freeze_config(on_node(config, step.stage, 5), tmp_path / "configs" / f"job-{slug(step)}.yaml", "title")
    with initialize_config_dir(str(tmp_path / "configs"), version_base="1.3"):
        for step, config in configs.values():
            there = to_config(compose(f"job-{slug(step)}"))
            workers = 5 if step.stage == "prepare" else None
            expected = replace(config, cluster=ClusterConfig(workers=workers), dry_run=False)
            assert asdict(there) == asdict(expected), step.name
    assert asdict(Config().cluster) == asdict(ClusterConfig()), "the job's place is the default one"


def test_the_frozen_code_is_what_the_stages_run(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for name, text in {
        "train.py": "uncommitted",
        "src/package/a.py": "code",
        "src/package/page.j2": "template",
        "src/package/__pycache__/a.pyc": "",
        "src/package.egg-info/PKG-INFO": "",
        "configs/base.yaml": "",
        "scripts/report.py": "",
        "outputs/mini/data/big": "",
        "notes.txt": "",
    }.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text)
    freeze_code(repository, tmp_path / "code")
    (repository / "train.py").write_text("edited later")
    found = {str(p.relative_to(tmp_path / "code")) for p in (tmp_path / "code").rglob("*") if p.is_file()}
    assert found == {"train.py", "src/package/a.py", "src/package/page.j2", "configs/base.yaml", "scripts/report.py"}
    assert (tmp_path / "code" / "train.py").read_text() == "uncommitted"


@pytest.mark.slow
def test_the_chain_is_submitted_with_its_dependencies(fake: Path, tmp_path: Path) -> None:
    done = command(tmp_path, "submit.py", "cluster=slurm")
    assert done.returncode == 0, done.stdout + done.stderr
    submission = last(tmp_path / "outputs" / "mini")
    assert submission is not None and submission.ids == [str(number) for number in range(100, 107)]
    after = {}
    for line in (fake / "submitted").read_text().splitlines():
        *options, path = line.split()
        assert Path(path).is_file() and options[0] == "--parsable"
        after[Path(path).stem] = options[1].partition("afterok:")[2] if len(options) > 1 else ""
    expected = {"data": "", "source": "100", "helper": "100", "init-fvt-1": "101:102"}
    assert after == expected | {"train-fvt-1": "103", "evaluate-fvt-1": "104", "report": "105"}
    assert (submission.folder / "code/src/clp_transfer/cluster/templates/job.sh.j2").is_file()
    (fake / "queue").write_text("103|PENDING|(Dependency)\n")
    again = command(tmp_path, "submit.py", "cluster=slurm")
    assert again.returncode == 2 and "still in the queue: 103" in again.stderr and "Traceback" not in again.stderr
    assert "cancelled: 103" in command(tmp_path, "cancel.py").stdout
    assert (fake / "cancelled").read_text() == "103\n"


@pytest.mark.slow
def test_a_refused_job_takes_those_before_it_along(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSE_AT", "102")
    done = command(tmp_path, "submit.py", "cluster=slurm")
    assert done.returncode == 2 and "sbatch refused helper.sh: Invalid account" in done.stderr
    assert (fake / "cancelled").read_text() == "100 101\n"


@pytest.mark.slow
def test_a_dry_run_prints_the_scripts_and_writes_nothing(tmp_path: Path) -> None:
    done = command(tmp_path, "submit.py", "cluster=slurm_gpu", "dry_run=true", "cluster.account=p1")
    assert done.returncode == 0, done.stderr
    assert "# sbatch --parsable --dependency=afterok:<source>:<helper> init-fvt-1.sh\n#!/bin/bash\n" in done.stdout
    assert done.stdout.count("#SBATCH --account=p1") == 7 and done.stdout.count("--nodes=4") == 3
    assert not (tmp_path / "outputs" / "mini" / "submissions").exists()
    refused = command(tmp_path, "submit.py", "dry_run=true")
    assert refused.returncode == 2 and "cluster=local has no queue" in refused.stderr


def test_the_table_says_where_every_job_is(fake: Path, tmp_path: Path) -> None:
    names = ["data", "source", "helper", "arm", "eval", "report"]
    jobs = [Job(n, n, str(tmp_path / n), str(200 + i) if n != "data" else None) for i, n in enumerate(names)]
    submission = Submission(tmp_path / "submission", "abc", jobs)
    for part in ("logs", "ended"):
        (submission.folder / part).mkdir(parents=True)
    for name in ("data", "source"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(json.dumps({"stage": "x", "key": "k", "files": {}}))
    (submission.folder / "ended" / "source").write_text("0\n")
    (submission.folder / "ended" / "helper").write_text("2\n")
    (submission.folder / "logs" / "helper.log").write_text("one\rError: two\nsrun: error: task 0\n\n")
    (submission.folder / "logs" / "eval.log").write_text("began")
    (fake / "queue").write_text("203|RUNNING|node7\n200|RUNNING|of somebody else\n")
    rows = [line.split("  ") for line in status_table(submission).splitlines()]
    found = {row[0].strip(): [cell.strip() for cell in row[1:] if cell.strip()] for row in rows}
    assert found["data"] == ["–", "was complete", "yes"]
    assert found["source"] == ["201", "COMPLETED", "yes"]
    assert found["helper"] == ["202", "FAILED (status 2)", "no", "Error: two"]
    assert found["arm"] == ["203", "RUNNING node7", "no"]
    assert found["eval"] == ["204", "killed or cancelled", "no", "began"]
    assert found["report"] == ["205", "never started", "no"]


def test_the_last_line_of_a_long_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("Straße\n" * 5000 + "the end" + "\n" * 3)
    assert last_line(tmp_path / "log") == "the end"
    assert last_line(tmp_path / "nosuch") == ""


def test_a_machine_without_slurm_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(slurm.UserError, match="no SLURM"):
        slurm.require()
    with pytest.raises(slurm.UserError, match="squeue"):
        slurm.queue(["1"])


@pytest.mark.parametrize("script", ["submit.py", "status.py", "cancel.py"])
def test_a_mistake_is_told_before_anything_heavy_is_imported(script: str, tmp_path: Path) -> None:
    guard = (
        "import sys, runpy\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        assert name.partition('.')[0] not in ('torch', 'transformers', 'wandb', 'submitit'), name\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    path, place = str(ROOT / "scripts" / script), f"paths.outputs={tmp_path}"
    done = subprocess.run([sys.executable, "-c", guard, path, "experiment=mini", place], capture_output=True, text=True)
    assert done.returncode == 2 and "AssertionError" not in done.stderr, done.stderr
    told = "has no queue" if script == "submit.py" else "nothing of mini was submitted"
    assert told in done.stderr and "What to do" in done.stderr
