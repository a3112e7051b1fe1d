"""The table of published systems: tiny models under their names, and those that cannot be had."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny import task_data

from clp_transfer.errors import UserError
from clp_transfer.evaluate import published as module
from clp_transfer.evaluate.published import PublishedConfig, published, systems

ROOT = Path(__file__).resolve().parents[2]
TASKS = ["clp_pawsx_de", "clp_gnad10"]


@pytest.fixture
def config(world, tmp_path) -> PublishedConfig:
    """Two systems as folders, of which one is broken."""
    models = tmp_path / "models"
    shutil.copytree(world.gpt2, models / "ai-forever/mGPT")
    (models / "facebook/xglm-564M").mkdir(parents=True)
    (models / "facebook/xglm-564M/config.json").write_text('{"model_type": "no such type"}')
    return PublishedConfig(
        models=["ai-forever/mGPT", "facebook/xglm-564M"],
        tasks=TASKS,
        models_dir=models,
        data_dir=task_data.write(tmp_path / "data", ["pawsx_de_test"]),
        out=tmp_path / "out",
    )


def test_the_systems_of_the_paper_are_listed() -> None:
    found = systems()
    assert {"name", "group", "what"} == set(found[0]) and len({s["name"] for s in found}) == len(found)
    paper = {system["name"] for system in found if system["group"] == "paper"}
    assert {"malteos/bloom-6b4-clp-german", "malteos/bloom-1b5-clp-german", "malteos/gpt2-xl-wechsel-german"} < paper
    assert {"malteos/gpt2-wechsel-german-ds-meg", "malteos/gpt2-xl-german-covid-19"} < paper
    others = {system["name"] for system in found} - paper
    sizes = {f"facebook/xglm-{size}" for size in ("564M", "1.7B", "2.9B", "4.5B", "7.5B")}
    assert others == {"benjamin/gpt2-wechsel-german", "ai-forever/mGPT"} | sizes


def test_one_table_with_what_could_be_measured_and_why_the_rest_could_not(config, world) -> None:
    published(config)
    result = json.loads((config.out / "published.json").read_text())
    here, broken = result["systems"]
    assert here["name"] == "ai-forever/mGPT" and here["error"] is None and here["loaded_from"] == "models_dir"
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(world.gpt2)
    assert here["parameters"] == sum(p.numel() for p in model.parameters()) and here["dtype"] == "float32"
    assert here["tasks"]["clp_pawsx_de"]["documents"] == 2
    assert here["tasks"]["clp_gnad10"]["error"].endswith("gnad10_test.jsonl does not exist")
    assert "no such type" in broken["error"] and broken["tasks"] == {}
    table = (config.out / "published.md").read_text()
    lines = {line.split(" |")[0].strip("| `*"): line for line in table.splitlines() if line.startswith("|")}
    assert (
        "| 50.0 | – |" in lines["random"] and "| 50.0 | – |" in lines["majority"] and "| 2 | – |" in lines["documents"]
    )
    assert "≈" in lines["ai-forever/mGPT"] and "no such type" in lines["facebook/xglm-564M"]
    assert {line.count(" | ") for line in lines.values()} == {len(TASKS) + 2}
    assert "- clp_gnad10, ai-forever/mGPT: " in table


def test_a_second_call_computes_nothing(config, monkeypatch) -> None:
    from clp_transfer.evaluate import zero_shot

    first = published(config)
    task_data.write(config.data_dir, ["gnad10_test"])
    ran = []
    run = zero_shot._run
    monkeypatch.setattr(zero_shot, "_run", lambda name, *rest: ran.append(name) or run(name, *rest))
    second = published(config)
    assert ran == ["clp_gnad10"]  # what failed is tried again
    assert second["systems"][0]["tasks"]["clp_pawsx_de"] == first["systems"][0]["tasks"]["clp_pawsx_de"]


def test_a_model_too_large_for_the_memory_is_told_before_it_is_read(config, monkeypatch) -> None:
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    weights = config.models_dir / "ai-forever/mGPT/model.safetensors"
    weights.unlink()
    error = published(config)["systems"][0]["error"]
    assert error.startswith("MemoryError: needs 0.0 GB of memory")


def test_a_tokenizer_that_does_not_fit(config) -> None:
    path = config.models_dir / "ai-forever/mGPT/tokenizer.json"
    found = json.loads(path.read_text())
    found["added_tokens"].append(found["added_tokens"][0] | {"id": 9000, "content": "<new>"})
    path.write_text(json.dumps(found))
    tokens = published(config)["systems"][0]
    assert "tokenizer has" in tokens["error"], tokens


def test_a_misspelt_name(config) -> None:
    config.models = ["ai-forever/mgpt"]
    with pytest.raises(UserError, match=r"no published system ai-forever/mgpt\n.*ai-forever/mGPT"):
        published(config)


def test_the_command(config, world, tmp_path) -> None:
    """With a model as the hub's own cache has it."""
    cached = tmp_path / "hub/models--ai-forever--mGPT"
    shutil.copytree(world.gpt2, cached / "snapshots" / ("a" * 40))
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text("a" * 40)
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "scripts/published.py", "models=[ai-forever/mGPT]", "tasks=[clp_pawsx_de]"]
    command += [f"{name}={getattr(config, name)}" for name in ("data_dir", "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=env)
    assert json.loads((config.out / "published.json").read_text())["systems"][0]["loaded_from"] == "hub"
    assert f"written: {config.out}/published.md" in done.stdout and "clp_pawsx_de: accuracy" in done.stdout
    done = subprocess.run([*command[:2], "limits=1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "limits=1: there is no key limits" in done.stderr
    assert "batch_size: int\n" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("models_dri=x", "models_dri=x: there is no key models_dri"),
        ("limit=abc", r"limit=abc is no value of type int \| None"),
        ("models=[a", r"models=\[a is no value of type list\[str\]"),
        ("models=a", r"models=a is no value of type list\[str\]"),
        ("foo", "foo is no key=value"),
        ("--cfg", "--cfg is no key=value"),
    ],
)
def test_a_mistyped_argument_is_told_with_the_keys(argument: str, told: str) -> None:
    spec = importlib.util.spec_from_file_location("published_script", ROOT / "scripts/published.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with pytest.raises(UserError, match=rf"{told}(?s:.*)models: list\[str\]") as error:
        script.parse([argument])
    assert "$" not in str(error.value)
    assert script.parse(["limit=3", "out=x"]) == PublishedConfig(limit=3, out=Path("x"))


def test_a_model_without_some_of_its_weights_is_not_measured(config) -> None:
    path = config.models_dir / "ai-forever/mGPT/model.safetensors"
    tensors = load_file(path)
    gone = next(name for name in tensors if "ln_f" in name)
    save_file({name: one for name, one in tensors.items() if name != gone}, path, metadata={"format": "pt"})
    row = published(config)["systems"][0]
    assert "no weights for 1 of" in row["error"] and row["tasks"] == {}
    assert not row["error"].startswith("UserError")


def test_rows_of_an_earlier_call_with_the_same_settings_stay(config) -> None:
    first = published(config)
    one = dataclasses.replace(config, models=["facebook/xglm-564M"])
    assert published(one)["systems"] == first["systems"]
    assert "ai-forever/mGPT" in (config.out / "published.md").read_text()
    # What cannot be loaded any more keeps its numbers.
    shutil.rmtree(config.models_dir / "ai-forever/mGPT")
    (config.models_dir / "ai-forever/mGPT").mkdir()
    assert published(config)["systems"][0] == first["systems"][0]
    # Rows of other settings do not stand in one table.
    names = [row["name"] for row in published(dataclasses.replace(one, limit=1))["systems"]]
    assert names == ["facebook/xglm-564M"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"models_dir": Path("/nonexist")}, "models_dir=/nonexist is not a folder"),
        ({"data_dir": Path("/nonexist")}, "data_dir=/nonexist is not a folder"),
        ({"limit": 0}, "limit=0 makes no sense"),
        ({"batch_size": 0}, "batch_size=0 makes no sense"),
    ],
)
def test_what_makes_no_sense_is_told_before_a_model_is_loaded(config, monkeypatch, change, told) -> None:
    monkeypatch.setattr(module, "_open", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=told):
        published(dataclasses.replace(config, **change))


def test_package_data() -> None:
    assert module.SYSTEMS.is_file() and module.SYSTEMS.parent == Path(module.__file__).parent
