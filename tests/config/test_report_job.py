"""The report is made anew when what it shows changes, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from clp_transfer.cli.schema import register, to_config
from clp_transfer.config.jobs import report_job

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def key(*overrides: str) -> str:
    register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return report_job(to_config(compose("report", overrides=["experiment=mini", *overrides]))).plan().key


@pytest.mark.parametrize("override", ["cluster=slurm", "dry_run=true", "wandb.mode=disabled", "pipeline.workers=1"])
def test_where_it_is_made_changes_nothing(override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert key(override) == key() != key("evaluate.sample_tokens=7")
