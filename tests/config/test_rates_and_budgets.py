"""Where a run's peak rate and budget come from: the config, the tuning table, what `make tune` wrote; `fraction`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clp_transfer.clp.job import MethodConfig
from clp_transfer.config.folders import seeds_of, tuning_file
from clp_transfer.config.jobs import _budget, _ingredients, peak_rate, report_job
from clp_transfer.config.schema import Config, PathsConfig
from clp_transfer.errors import UserError
from clp_transfer.train.job import BudgetConfig, OptimConfig


def config(root: Path, **changes: object) -> Config:
    values = {"name": "one", "method": MethodConfig("clp"), "paths": PathsConfig(str(root))}
    return Config(**(values | changes))  # type: ignore[arg-type]


def write(path: Path, rows: dict[str, dict[str, float | None]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def test_the_rate_is_the_configs_then_the_tables_then_the_files(tmp_path: Path) -> None:
    one = config(tmp_path)
    with pytest.raises(UserError, match=r"one/tuning\.json has a row for method clp(.|\n)*make tune"):
        peak_rate(one)
    write(tuning_file(one), {"clp": {"0.001": 4.5, "0.003": 4.25, "0.01": None}, "mean": {"0.001": 1.0}})
    assert peak_rate(one) == 0.003
    table = {"clp": {1e-3: 6.0, 2e-3: 7.0}}
    assert peak_rate(replace(one, tuning=table)) == 1e-3
    assert peak_rate(replace(one, tuning=table, optim=OptimConfig(lr=7e-4))) == 7e-4


def test_a_variant_by_another_name_has_the_rates_of_the_experiment_it_is_of(tmp_path: Path) -> None:
    write(tuning_file(config(tmp_path)), {"clp": {"0.002": 3.0}})
    assert peak_rate(config(tmp_path, name="one-other-helper", tuning_of="one")) == 0.002


def test_a_rate_at_which_every_run_diverged_is_none(tmp_path: Path) -> None:
    write(tuning_file(config(tmp_path)), {"clp": {"0.002": None}})
    with pytest.raises(UserError, match="no learning rate"):
        peak_rate(config(tmp_path))


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (BudgetConfig(tokens=1_000), BudgetConfig(tokens=10)),
        (BudgetConfig(tokens=10, steps=300), BudgetConfig(tokens=1, steps=3)),
        (BudgetConfig(tokens=10, epochs=2.0), BudgetConfig(tokens=1, epochs=0.02)),
    ],
)
def test_a_fraction_of_a_budget(tmp_path: Path, budget: BudgetConfig, expected: BudgetConfig) -> None:
    assert _budget(config(tmp_path, budget=budget, fraction=0.01)) == expected
    assert _budget(config(tmp_path, budget=budget)) == budget


def test_the_report_has_one_seed_of_the_arms_that_were_trained_with_one(tmp_path: Path) -> None:
    one = config(tmp_path, arms=["scratch", "mean"], seeds=[3, 5], one_seed=["mean"])
    assert [(run.arm, run.seed) for run in report_job(one).arms] == [("scratch", 3), ("scratch", 5), ("mean", 3)]
    assert (seeds_of(one, "mean"), seeds_of(one, "scratch")) == ([3], [3, 5])


def test_a_named_helper_is_an_ingredient_where_it_was_trained_here(tmp_path: Path) -> None:
    run = tmp_path / "one/runs/helper,seed1"
    named = config(tmp_path, helper=str(run / "model"), source="somebody/some-model")
    assert _ingredients(named) == {}
    run.mkdir(parents=True)
    (run / "summary.json").write_text("{}")
    assert _ingredients(named) == {"helper": run}
