"""`make plan`: the shape is read from configs alone, runs add up, and every experiment can be planned offline."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from transformers import AutoModelForCausalLM

from clp_transfer.cli.plan import plan as plan_experiment
from clp_transfer.cli.schema import register, to_config
from clp_transfer.errors import UserError
from clp_transfer.train.estimate import MACHINES, estimate
from clp_transfer.train.job import ArchitectureConfig, PlannedRun
from clp_transfer.train.plan import plan, shape

ROOT = Path(__file__).resolve().parents[2]
FIELDS = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
RUN = PlannedRun("source", 1, 10**9, 128, None, ArchitectureConfig("llama", {**FIELDS}), 500)


def test_a_models_shape_is_that_of_its_config_with_the_targets_tokens(world, tmp_path) -> None:
    source = AutoModelForCausalLM.from_pretrained(world.source)
    rows, width = source.get_input_embeddings().weight.shape
    (tmp_path / "config.json").write_bytes((world.source / "config.json").read_bytes())  # and no weights
    found = shape(replace(RUN, model=str(tmp_path), vocabulary=rows + 100))
    tables = 2 if source.get_output_embeddings().weight is not source.get_input_embeddings().weight else 1
    assert found.parameters == sum(p.numel() for p in source.parameters()) + tables * 100 * width
    assert found.vocabulary == rows + 100 and found.length == 128


def test_the_total_is_the_sum_of_all_runs() -> None:
    other = replace(RUN, name="targets", times=7, tokens=5 * 10**12)
    text = plan([RUN, other])
    for machine in MACHINES:
        hours = (
            estimate(shape(RUN), machine, RUN.tokens).hours + 7 * estimate(shape(other), machine, other.tokens).hours
        )
        days = re.search(rf"\| {re.escape(machine.name)} \| ([\d.]+) (days|h|min) \|$", text, re.MULTILINE)
        assert days is not None
        unit = {"days": 24, "h": 1, "min": 1 / 60}[days[2]]
        assert float(days[1]) * unit == pytest.approx(hours, rel=0.1)
    assert "7 runs of" in text and "Estimates" in text


def test_a_machine_that_cannot_share_the_batch_says_so_and_has_no_total() -> None:
    text = plan([replace(RUN, batch_tokens=16 * 128), replace(RUN, name="targets")])
    source, targets, totals = text.split("\n## ")
    rows = {machine: [row for row in source.splitlines() if f"| {machine.name} |" in row] for machine in MACHINES}
    for machine, (row,) in rows.items():
        if machine.devices == 32:
            assert "| a batch of 16 sequences does not fit 32 GPUs | |" in row
            assert f"| {machine.name} |" in targets and f"| {machine.name} |" not in totals
        else:
            assert f"| {16 // machine.devices} × 128 |" in row and f"| {machine.name} |" in totals


def test_a_config_that_cannot_be_read_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        shape(replace(RUN, model=str(tmp_path)))


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "configs" / "experiment").glob("*.yaml")))
def test_every_experiment_can_be_planned(name: str, tmp_path, caplog) -> None:
    """Offline, as the tests are: the shape of a source on the hub is in the config."""
    register()
    overrides = [f"experiment={name}", f"paths.outputs={tmp_path}"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"), caplog.at_level("INFO", "clp_transfer"):
        config = to_config(compose("plan", overrides=overrides))
        if config.budget.epochs is not None:  # how much text that is nobody knows yet
            with pytest.raises(UserError, match=r"prepare\.py first"):
                plan_experiment(config, overrides)
            overrides.append("budget.epochs=null")
        plan_experiment(config, overrides)
    assert f"# {name}" in caplog.text and "All runs" in caplog.text
    assert ("## source:" in caplog.text) == (config.source is None)


def test_the_command_prints_the_plan(tmp_path) -> None:
    command = [sys.executable, str(ROOT / "scripts/plan.py"), "experiment=mini", f"paths.outputs={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "## source:" in done.stdout + done.stderr and "All runs" in done.stdout + done.stderr
    assert "| 16 × 128 |" in done.stdout and "a batch of 16 sequences does not fit 32 GPUs" in done.stdout
