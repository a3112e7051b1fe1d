"""A copy of the code and of every step's resolved config, so that later edits do not reach jobs that wait."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import yaml

from clp_transfer.config.schema import Config
from clp_transfer.files import write_text
from clp_transfer.prepare.job import ClusterConfig

CODE = ("src", "configs", "scripts")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
# As in configs/train.yaml; `schema` checks the values when the job starts, and the rest keeps Hydra's files away.
HEADER = """\
# {title}
defaults:
  - schema
  - plain_hydra
  - override hydra/job_logging: none
  - override hydra/hydra_logging: none
  - _self_
"""


def freeze_code(repository: Path, folder: Path) -> None:
    """Copy what the stages run, as it is now, committed or not."""
    folder.mkdir(parents=True)
    for script in sorted(repository.glob("*.py")):
        shutil.copy2(script, folder / script.name)
    for name in CODE:
        shutil.copytree(repository / name, folder / name, ignore=LEFT_OUT)


def on_node(config: Config, stage: str, cpus: int) -> Config:
    """The config as the job runs it: it is on the cluster already, and cleaning uses the job's own cores.

    Nothing else may differ, so that the results are those of `make reproduce`, and are complete for both.
    """
    place = ClusterConfig(workers=cpus) if stage == "prepare" else ClusterConfig()
    return replace(config, cluster=place, dry_run=False)


def freeze_config(config: Config, path: Path, title: str) -> None:
    """Write a config with every value resolved, as a primary config of its own.

    Hydra must find no other of its name in `configs/`, where it looks first (report.yaml).
    """
    values = yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True, width=120)
    write_text(path, HEADER.format(title=title) + values)
