"""The study project's 31 runs: each file of configs/grid has the rates and phases of its row in the study's table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from clp_transfer.cli.schema import register, to_config
from clp_transfer.config.schema import Config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MEMBERS = {"pythia-410m-wikitext": 19, "pythia-410m-clp": 6, "pythia-410m-random": 6}

# The study's options, by the numbers of its runs: et: percent of embedding tuning; etw, wu: warm-ups in percent, of the
# run where `of_run`; lr, full: peak rates; batch: sequences in the first and in the second phase.
D: dict[str, Any] = {
    **{"et": 10, "etw": 1, "wu": 1, "of_run": True, "schedule": "cosine", "denominator": False},
    **{"freeze": True, "lr": 1e-3, "full": 3e-4, "batch": (32, 32)},
}
SMALL = D | {"etw": 10, "wu": 10, "of_run": False, "batch": (1, 64)}
RUNS: dict[int, dict[str, Any]] = {
    1: D | {"et": 0},
    2: D,
    3: D | {"freeze": False},
    4: D | {"et": 100},
    5: D | {"etw": 0},
    6: D | {"wu": 0},
    7: D | {"etw": 0, "wu": 0},
    8: D | {"schedule": "constant"},
    9: D | {"schedule": "mixed"},
    10: D | {"denominator": True},
    11: D | {"schedule": "unified", "full": 1e-3},
    12: D | {"et": 25},
    13: D | {"et": 50},
    14: D | {"et": 75},
    15: SMALL,
    16: SMALL | {"denominator": True},
    17: SMALL | {"schedule": "unified", "full": 1e-3},
    18: SMALL | {"freeze": False},
    19: SMALL | {"freeze": False, "denominator": True},
}
ON_OSCAR = [RUNS[1] | {"wu": 10}, *(RUNS[n] for n in (2, 3, 4, 16, 19))]  # its baseline warms up longer there
RANDOM = [RUNS[n] for n in (1, 2, 16)]


def members(experiment: str) -> list[Config]:
    """What `train.py -m experiment=…` runs, as Hydra's own sweeper takes it apart."""
    register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        composed = compose("train", overrides=[f"experiment={experiment}"], return_hydra_config=True)
        params = [f"{key}={value}" for key, value in composed.hydra.sweeper.params.items()]
        parsed = OverridesParser.create().parse_overrides([f"experiment={experiment}", *params])
        (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
        return [to_config(compose("train", overrides=list(job))) for job in jobs]


def studied(config: Config) -> dict[str, Any]:
    """A config in the study's terms; what its phases cannot change is as in D."""
    phases, optim, budget = config.phases, config.optim, config.budget
    first = phases.batch_tokens or budget.batch_tokens
    return {
        "et": 100 * phases.share,
        "etw": 100 * phases.warmup_share,
        "wu": 100 * optim.warmup_share,
        "of_run": phases.warmup_of == "run",
        "schedule": phases.schedule,
        "denominator": phases.denominator == "run",
        "freeze": phases.freeze,
        "lr": phases.lr,
        "full": optim.lr,
        "batch": (first // budget.sequence_length, budget.batch_tokens // budget.sequence_length),
    }


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        ("pythia-410m-wikitext", list(RUNS.values())),
        ("pythia-410m-clp", ON_OSCAR),
        ("pythia-410m-random", [run for run in RANDOM for _ in range(2)]),
    ],
)
def test_a_sweep_has_the_runs_of_the_study(experiment: str, expected: list[dict[str, Any]]) -> None:
    found = members(experiment)
    assert len(found) == MEMBERS[experiment]
    assert [studied(config) for config in found] == expected
    for config in found:
        floor = config.optim.min_lr_ratio * min(config.optim.lr or 0, config.phases.lr or 0)
        assert floor == pytest.approx(3e-5)
        assert (config.optim.betas, config.optim.weight_decay, config.optim.clip_norm) == ([0.9, 0.95], 0.1, 1.0)
        assert (config.budget.sequence_length, config.optim.schedule) == (512, "cosine")


def test_the_random_runs_are_on_both_texts() -> None:
    found = members("pythia-410m-random")
    assert [config.pack for config in found] == ["target", "wikitext"] * 3
    assert {config.method.name for config in found} == {"random"}
    texts = {config.pack: config.data.corpora[config.data.packs[config.pack].corpus] for config in found}
    register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        alone = [to_config(compose("prepare", overrides=[f"data={name}"])) for name in ("oscar_de", "wikitext_de")]
    assert list(texts.values()) == [config.data.corpora["target"] for config in alone]


def test_every_run_of_the_grid_is_swept_over() -> None:
    files = {path.stem for path in (CONFIGS / "grid").glob("*.yaml")}
    register()
    named = set()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for experiment in MEMBERS:
            composed = compose("train", overrides=[f"experiment={experiment}"], return_hydra_config=True)
            named |= {name.strip() for name in composed.hydra.sweeper.params.grid.split(",")}
    assert named == files
