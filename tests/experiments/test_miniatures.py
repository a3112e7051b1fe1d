"""Every experiment's whole chain, from texts to the report, on small models of its family; nothing is fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from transformers import AutoModelForCausalLM, AutoTokenizer

from clp_transfer.cli.schema import register, to_config
from clp_transfer.cli.stages import STAGES
from clp_transfer.config.folders import init_folder, root, run_folder
from clp_transfer.config.schema import Config
from clp_transfer.pipeline.steps import expand

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# These train a helper, or a source too: tests/test_end_to_end.py, tests/test_gpu_result.py.
OWN_HELPER = {"mini", "mini-ablations", "mini-fr", "smollm2-135m-german"}
ALL_ARMS = "smollm2-135m"  # of the files with the same seven arms, the one that runs them all here
EXPERIMENTS = sorted({p.stem for p in (CONFIGS / "experiment").glob("*.yaml")} - OWN_HELPER)


def composed(stage: str, overrides: list[str]) -> Config:
    register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return to_config(compose(stage, overrides=overrides))


def miniature(experiment: str, small: Any, outputs: Path) -> list[str]:
    """The overrides that make an experiment small; the same a person would give."""
    own = composed("reproduce", [f"experiment={experiment}"])
    given = [
        *(f"experiment={experiment}", "+scale=mini", f"source={small.sources[own.source]}", f"helper={small.helper}"),
        *(f"files=[{small.texts}]", f"paths.outputs={outputs}", f"paths.cache={outputs}/cache", "wandb.mode=disabled"),
        *("method.tokens=600", "method.window=32", "train.log_seconds=0"),
    ]
    if len(own.arms) > 1 and experiment != ALL_ARMS:
        given += ["arms=[clp,calibrate]"]
    if "wechsel" in own.arms:
        given += small.vectors
    if "wikitext" in own.data.corpora:  # of its two texts the second has no place of its own for files
        at = "data.corpora.wikitext"
        given += [f"{at}.sources.wikitext.hub=null", f"{at}.sources.wikitext.files=[{small.texts}]"]
        given += [f"{at}.sources.wikitext.id=id", f"{at}.validation_bytes=2000"]
    return given


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_whole_chain_runs(experiment: str, small: Any, tmp_path: Path) -> None:
    overrides = miniature(experiment, small, tmp_path)
    config = composed("reproduce", overrides)
    for step in expand(config):
        STAGES[step.stage](composed(step.stage, [*overrides, *step.overrides]))
    results = json.loads((root(config) / "report" / "results.json").read_text())
    assert set(results["arms"]) == set(config.arms) and not results.get("lost")
    for arm in config.arms:
        one = composed("train", [*overrides, f"method={arm}", f"seed={config.seeds[0]}"])
        _check_model(one, run_folder(one).model, small)
        tied = _tied(Path(str(config.source)))
        assert _tied(init_folder(one)) == _tied(run_folder(one).model) == tied
        curve = results["arms"][arm]["curve"]
        assert curve[-1]["tokens"] >= config.budget.tokens and curve[-1]["bits_per_byte"] != curve[0]["bits_per_byte"]


def _check_model(config: Config, folder: Path, small: Any) -> None:
    """Of the source's family and shape, with the helper's vocabulary and as many rows as it is padded to."""
    source = json.loads((Path(str(config.source)) / "config.json").read_text())
    made = json.loads((folder / "config.json").read_text())
    layers = next(key for key in ("n_layer", "num_hidden_layers") if key in source)
    assert (made["model_type"], made[layers]) == (source["model_type"], source[layers])
    tokenizer, helper = (AutoTokenizer.from_pretrained(path) for path in (folder, small.helper))
    assert tokenizer.get_vocab() == helper.get_vocab()
    multiple = config.transfer.pad_to_multiple_of or 1
    rows = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight.shape[0]
    assert rows == -(-len(helper) // multiple) * multiple == made["vocab_size"]


def _tied(folder: Path) -> bool:
    model = AutoModelForCausalLM.from_pretrained(folder)
    return model.get_input_embeddings().weight is model.get_output_embeddings().weight
