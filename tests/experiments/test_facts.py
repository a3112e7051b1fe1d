"""What the paper's experiments take from the paper and from its models' cards, and what every file has to say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from clp_transfer.cli.schema import register, to_config
from clp_transfer.config import jobs
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.evaluate.task_names import expand as expand_tasks
from clp_transfer.pipeline.steps import expand
from clp_transfer.prepare.checks import check

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "configs" / "experiment"
FROM_NOTHING = {"mini", "mini-ablations", "mini-fr"}
OWN_HELPER = {"smollm2-135m-german"}  # test_german.py
PRETRAINED = sorted({p.stem for p in EXPERIMENTS.glob("*.yaml")} - FROM_NOTHING - OWN_HELPER)
# Source, helper, arm, billions of tokens; in the paper or on a card, but for the helpers of GPT2-XL.
PAPER = {
    "gpt2-xl-clp": ("openai-community/gpt2-xl", "malteos/gpt2-wechsel-german-ds-meg", "clp", 26.2),
    "gpt2-xl-scratch": ("openai-community/gpt2-xl", "malteos/gpt2-wechsel-german-ds-meg", "scratch", 26.2),
    "gpt2-xl-wechsel": ("openai-community/gpt2-xl", "benjamin/gpt2-wechsel-german", "wechsel", 26.2),
    "gpt2-large-clp": ("openai-community/gpt2-large", "benjamin/gpt2-wechsel-german", "clp", 26.2),
    "bloom-1b5-clp": ("bigscience/bloom-1b7", "malteos/gpt2-xl-wechsel-german", "clp", 26.2),
    "bloom-1b5-scratch": ("bigscience/bloom-1b7", "malteos/gpt2-xl-wechsel-german", "scratch", 26.2),
    "bloom-6b4-clp": ("bigscience/bloom-7b1", "malteos/gpt2-xl-wechsel-german", "clp", 50.4),
    "bloom-6b4-scratch": ("bigscience/bloom-7b1", "malteos/gpt2-xl-wechsel-german", "scratch", 105.9),
}


def composed(stage: str, *overrides: str) -> Config:
    register()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return to_config(compose(stage, overrides=list(overrides)))


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_experiments(name: str) -> None:
    config = composed("train", f"experiment={name}")
    source, helper, arm, billions = PAPER[name]
    assert (config.source, config.helper, config.arms) == (source, helper, [arm])
    assert round(config.budget.tokens / 1e9, 1) == billions
    assert config.train.precision == "bf16"
    assert expand_tasks(config.tasks) and "clp_oscar_ppl_de" in expand_tasks(config.tasks)
    if name.startswith("gpt2-xl"):  # the card: 26.2 billion tokens in 100,000 updates
        assert config.budget.tokens == 100_000 * config.budget.batch_tokens


@pytest.mark.parametrize("name", PRETRAINED)
def test_an_experiment_of_pretrained_models(name: str) -> None:
    """It fits together: texts are packed with the helper's tokenizer, the shape is the source's, nothing is made."""
    config = composed("train", f"experiment={name}")
    check(config.data)
    tokenizer = config.data.tokenizers[config.tokenizer]
    assert tokenizer.path == config.helper and config.architecture.of == config.source
    assert {pack.tokenizer for pack in config.data.packs.values()} == {config.tokenizer}
    steps = [(step.stage, step.overrides) for step in expand(config)]
    assert [stage for stage, _ in steps] == [
        "prepare",
        *(s for s in ("clp", "train", "evaluate") for _ in config.arms),
        "report",
    ]
    assert not any("run=" in override for _, overrides in steps for override in overrides)
    sequences = config.budget.batch_tokens / config.budget.sequence_length
    assert sequences.is_integer() and sequences % config.budget.micro_batch == 0
    text = (EXPERIMENTS / f"{name}.yaml").read_text()
    assert "# Cost: " in text and (
        "unverified" in text or "nothing here is a published value" in text or name in RESTATED
    )


RESTATED = {"bloom-6b4-scratch", "pythia-410m-wikitext"}  # all that they say is in their sources; the rest is inherited


def test_scratch_is_trained_as_clp_is() -> None:
    """The two arms of a comparison differ in the arm; in the 6.4B model's also in how far the figure's curve goes."""
    for size in ("gpt2-xl", "bloom-1b5", "bloom-6b4"):
        clp, scratch = (composed("train", f"experiment={size}-{arm}", "name=x") for arm in ("clp", "scratch"))
        scratch.arms = clp.arms
        if size == "bloom-6b4":
            scratch.budget.tokens = clp.budget.tokens
        assert clp == scratch


def test_the_paper_reads_all_of_oscar_and_not_its_first_gigabytes() -> None:
    corpus = composed("prepare", "experiment=gpt2-xl-clp").data.corpora["target"]
    assert corpus.subsample_size_mb is None and corpus.train_bytes is None and corpus.split == "in_order"
    assert corpus.validation is not None and corpus.validation.hub is not None
    assert corpus.validation.hub.dataset == "malteos/wechsel_de" and "validation" in corpus.clean.decontaminate
    assert composed("prepare", "experiment=pythia-410m-clp").data.corpora["target"].subsample_size_mb == 4096


@pytest.mark.parametrize("given", [[], ["method.vectors=nosuch.vec"]])
def test_wechsel_says_which_files_it_needs_before_anything_is_done(given: list[str]) -> None:
    config = composed("clp", "experiment=gpt2-xl-wechsel", "method=wechsel", *given)
    with pytest.raises(UserError, match="nosuch.vec" if given else "method.vectors is not set"):
        jobs.transfer_job(config)


@pytest.mark.parametrize("name", ["smollm2-135m", "pythia-410m", "qwen3-0.6b", "llama-3.2-1b"])
def test_a_current_model_learns_any_language(name: str) -> None:
    config = composed("prepare", f"experiment={name}", "language=fr", "helper=some/french", f"name={name}-fr")
    assert jobs.data_language(config) == "fr"
    (source,) = config.data.corpora["target"].sources.values()
    assert source.hub is not None and source.hub.files == ["fr/*.parquet"]
    assert config.data.tokenizers["target"].path == "some/french"


def test_the_table_has_every_experiment() -> None:
    """docs/experiments.md: each with its source, helper and tokens as they are in its file."""
    rows = {row[0]: row for row in _rows((ROOT / "docs" / "experiments.md").read_text())}
    assert set(PRETRAINED) | FROM_NOTHING | OWN_HELPER <= set(rows)
    for name in PRETRAINED:
        config = composed("train", f"experiment={name}")
        row = " ".join(rows[name])
        assert str(config.source).rpartition("/")[2] in row and str(config.helper).rpartition("/")[2] in row
        tokens = (
            "an epoch" if config.budget.epochs else f"{config.budget.tokens / 1e9:.2f}".rstrip("0").rstrip(".") + " B"
        )
        assert tokens in row or f"{config.budget.tokens / 1e9:.1f} B" in row, (name, tokens)


def _rows(text: str) -> list[list[str]]:
    """The cells of every table row whose first cell is an experiment's name."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    return [[re.sub("`", "", cells[0]), *cells[1:]] for cells in lines]
