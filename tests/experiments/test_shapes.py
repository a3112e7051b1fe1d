"""The shapes that experiments are planned with have the published numbers of parameters, and are of their sources."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from transformers import AutoModelForCausalLM

from clp_transfer.cli.schema import register, to_config
from clp_transfer.config.jobs import planned_run
from clp_transfer.config.schema import Config
from clp_transfer.train.architecture import config_of
from clp_transfer.train.plan import shape

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# Rows of the source's own table, parameters as its publishers count them, whether the head is the table.
PUBLISHED = {
    "gpt2-xl": (50_257, 1_557_611_200, True),
    "gpt2-large": (50_257, 774_030_080, True),
    "bloom-1b7": (250_880, 1_722_408_960, True),
    "bloom-7b1": (250_880, 7_069_016_064, True),
    "pythia-410m": (50_304, 405_334_016, False),
    "smollm2-135m": (49_152, 134_515_008, True),
    "qwen3-0.6b": (151_936, 596_049_920, True),
    "llama-3.2-1b": (128_256, 1_235_814_400, True),
}


def composed(*overrides: str) -> Config:
    register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return to_config(compose("train", overrides=list(overrides)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_has_the_published_number_of_parameters(name: str) -> None:
    rows, parameters, tied = PUBLISHED[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config_of(composed(f"architecture={name}").architecture, {"vocab_size": rows})
        )
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert f"{parameters:,}" in (CONFIGS / "architecture" / f"{name}.yaml").read_text()


def test_every_shape_is_known() -> None:
    of = {p.stem for p in (CONFIGS / "architecture").glob("*.yaml") if "\nof: " in p.read_text()}
    assert of == set(PUBLISHED)


def test_the_shape_of_a_hub_source_is_planned_with() -> None:
    """6.247 billion parameters is what BLOOM-7B1 has with the German vocabulary, as published for the 6.4B model."""
    config = composed("experiment=bloom-6b4-clp")
    run = planned_run(config, config.architecture, 1)
    assert run.model is None and run.vocabulary == 50_257
    assert shape(run).parameters == pytest.approx(6.247e9, rel=1e-4)


def test_any_other_source_has_its_own_shape(tmp_path: Path) -> None:
    for source in ("somebody/gpt2-xl", str(tmp_path)):
        config = composed("experiment=gpt2-xl-clp", f"source={source}")
        assert planned_run(config, config.architecture, 1).model == source


def test_a_folder_goes_before_a_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may keep models in folders called like hub ids."""
    (tmp_path / "openai-community/gpt2-xl").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    config = composed("experiment=gpt2-xl-clp")
    assert planned_run(config, config.architecture, 1).model == "openai-community/gpt2-xl"


def test_whose_shape_it_is_changes_no_result(tmp_path: Path) -> None:
    """The key of a run is that of the same fields without `of`: finished runs stay finished."""
    from clp_transfer.config.jobs import train_job

    config = composed("experiment=mini", "run=source", f"paths.outputs={tmp_path}")
    job = train_job(config)
    for prefix in (job.train_pack, job.validation_pack):
        prefix.parent.mkdir(parents=True, exist_ok=True)
        prefix.with_suffix(".bin").write_bytes(b"1")
    job.tokenizer.mkdir(parents=True)
    (job.tokenizer / "tokenizer.json").write_text("{}")
    before = job.plan().key
    job.architecture.of = "somebody/something"
    assert job.plan().key == before
    assert set(job.plan().settings["architecture"]) == {"model_type", "fields"}
