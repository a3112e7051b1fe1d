"""A sweep is refused where two members want one folder for different results, and only there."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from clp_transfer.cli import sweep_clashes
from clp_transfer.cli.schema import register
from clp_transfer.cli.sweep_clashes import refuse_clashes
from clp_transfer.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def check(stage: str, *overrides: str, params: dict[str, str] | None = None) -> None:
    """Check the sweep that these overrides ask for, as Hydra hands it to its callbacks."""
    register()
    sweep = {"sweeper": {"_target_": BASIC, "params": params}, "overrides": {"task": list(overrides)}}
    config = OmegaConf.create({"hydra": sweep, "method": {"top_k": None}})
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        refuse_clashes(stage, config)


@pytest.mark.parametrize(
    ("stage", "overrides"),
    [
        ("clp", ["method=clp,ridge", "paths.outputs=/x"]),
        ("clp", ["method=clp,ridge", "paths.outputs=/x", "transfer.links=auto"]),
        ("clp", ["method=clp-topk", "name=k${method.top_k}", "method.top_k=5,10"]),
        ("clp", ["method=clp-topk", "out=there/${method.top_k}", "method.top_k=5,10"]),
        ("clp", ["method=clp-topk", "seed=1,2", "name=a,b"]),
        ("prepare", ["method=clp,ridge"]),
        ("prepare", ["name=s${seed}", "seed=1,2"]),
        ("train", ["method=clp,ridge", "optim.lr=1e-3,2e-3", "method.top_k=7"]),
        ("train", ["run=source", "method=clp,ridge"]),
        ("evaluate", ["method=clp,ridge", "seed=1,2"]),
        ("report", ["name=a,b"]),
        ("reproduce", ["experiment=mini,mini-fr"]),
        ("plan", ["budget.tokens=1000,2000"]),
    ],
)
def test_members_with_folders_of_their_own_run(stage: str, overrides: list[str], monkeypatch) -> None:
    looked_at: list[list[tuple[str, Path, Any]]] = []
    wanted = sweep_clashes._wanted
    monkeypatch.setattr(sweep_clashes, "_wanted", lambda *given: looked_at.append(wanted(*given)) or looked_at[-1])
    check(stage, "experiment=mini", *overrides)
    assert len(looked_at) == math.prod(len(one.split(",")) for one in overrides)  # none was left out for a mistake


@pytest.mark.parametrize(
    ("stage", "overrides", "problem", "remedy"),
    [
        (
            "clp",
            ["method.top_k=5,10"],
            "top_k=5 and method.top_k=10 both write outputs/mini/init/clp-topk-seed1",
            "out=",
        ),
        ("clp", ["name=x", "method.top_k=5,10"], "both write outputs/x/init/clp-topk-seed1", "init/clp-topk-seed1-${"),
        ("clp", ["out=there", "seed=1,2"], "seed=1 and seed=2 both write .*there", "there-${seed}'"),
        ("prepare", ["seed=1,2"], "both write outputs/mini/data", "'name=mini-${seed}'"),
        ("train", ["method.top_k=5,10"], "both start from outputs/mini/init/clp-topk-seed1", "model="),
        ("train", ["run=source", "seed=1,2"], "both write outputs/mini/runs/source", "'name=mini-${seed}'"),
        ("train", ["experiment=mini,mini-fr", "name=x"], "both write outputs/x/runs/clp-topk-seed1", "name="),
        ("reproduce", ["seeds=[1],[2]"], "both write outputs/mini", "name="),
    ],
)
def test_members_of_one_folder_are_refused(stage: str, overrides: list[str], problem: str, remedy: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        check(stage, "experiment=mini", "method=clp-topk", *overrides)
    assert remedy in error.value.remedy


def test_what_the_remedy_says_is_then_accepted() -> None:
    swept = ["experiment=mini", "method=clp-topk", "method.top_k=5,10"]
    with pytest.raises(UserError) as error:
        check("clp", *swept)
    said = error.value.remedy.split("'")[1]
    assert said.startswith("out=")
    check("clp", *swept, said)


def test_the_sweep_that_an_experiment_has_is_looked_at_too() -> None:
    with pytest.raises(UserError, match="seed=1 and seed=2 both write outputs/mini/data"):
        check("prepare", "experiment=mini", params={"seed": "1,2"})


def test_a_refused_sweep_starts_no_member(tmp_path: Path) -> None:
    command = [*(sys.executable, str(ROOT / "clp.py"), "-m", "experiment=mini", "method=clp-topk")]
    done = subprocess.run([*command, "method.top_k=5,10"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and not list(tmp_path.iterdir()), done.stdout + done.stderr
    assert "Error: members of this sweep would overwrite each other" in done.stderr and "Traceback" not in done.stderr
