"""What `train.py` is asked to do, from composed configs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from clp_transfer.cli.schema import register, to_config
from clp_transfer.config.jobs import train_job

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["run=source", "phases=embeddings_first"], "phases are for targets: run=source has none"),
        (["run=helper", "phases.share=0.5"], "phases are for targets: run=helper has none"),
        (["phases=embeddings_first", "phases.share=0"], "phases.share is 0: .* without effect are phases.lr=0.001$"),
        (["phases.freeze=false", "phases.cycles=2"], "without effect are phases.freeze=False, phases.cycles=2.0$"),
        (["phases=embeddings_first"], ""),
        (["run=source"], ""),
        ([], ""),
    ],
)
def test_phases_that_a_run_does_not_have_are_told(overrides: list[str], told: str, tmp_path, caplog) -> None:
    register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        composed = compose("train", overrides=["experiment=mini", f"paths.outputs={tmp_path}", *overrides])
    job = train_job(to_config(composed))
    assert (job.phases.share > 0) == (overrides == ["phases=embeddings_first"])
    assert re.search(told, caplog.text.strip()) if told else caplog.text == ""
