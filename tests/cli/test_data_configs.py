"""The data group: every file composes through the schema, names what there is, and says what its source holds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from clp_transfer.cli.schema import register, to_config
from clp_transfer.config import jobs
from clp_transfer.config.schema import Config
from clp_transfer.evaluate.job import Step0Job
from clp_transfer.pipeline.steps import expand
from clp_transfer.prepare.checks import check, check_cluster
from clp_transfer.prepare.corpus import split_sizes
from clp_transfer.prepare.job import SourceConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ALL = sorted(path.stem for path in (CONFIGS / "data").glob("*.yaml"))
MINIATURES = ["mini", "mini_fr"]
GIVEN = ["files", "hub"]  # these name no source of their own


def composed(*overrides: str) -> Config:
    register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return to_config(compose("prepare", overrides=list(overrides)))


def sources(config: Config, corpus: str = "target") -> dict[str, SourceConfig]:
    return config.data.corpora[corpus].sources


@pytest.mark.parametrize("name", ALL)
def test_a_data_config_names_what_there_is(name: str) -> None:
    config = composed(f"data={name}")
    check(config.data)
    for corpus in config.data.corpora:
        for source in sources(config, corpus).values():
            places = [place for place in (source.wheel, source.hub, source.files) if place]
            assert len(places) == (0 if name == "files" else 1)
            assert source.licence or name in GIVEN
            if source.wheel is not None:
                assert re.fullmatch("[0-9a-f]{64}", source.wheel.sha256)


@pytest.mark.parametrize("name", [name for name in ALL if name not in MINIATURES])
def test_it_is_ready_to_train_on(name: str) -> None:
    """What `train.py` and `clp.py` look for where nothing else is named."""
    config = composed(f"data={name}")
    assert (config.data.packs[config.pack].corpus, config.data.packs[config.pack].tokenizer) == ("target", "target")
    assert config.tokenizer in config.data.tokenizers
    assert jobs.data_language(config) == "de"


def test_oscar_is_the_papers_split() -> None:
    corpus = composed("data=oscar_de").data.corpora["target"]
    sizes = split_sizes(corpus)
    assert (sizes.train, sizes.validation) == (1024 * 1024 * 4096, 1024 * 1024 * 4096 // 10)
    assert corpus.split == "in_order" and not corpus.clean.exact and not corpus.clean.near
    corpus = composed("data=oscar_de", "data.corpora.target.subsample_size_mb=100").data.corpora["target"]
    assert split_sizes(corpus).train == 100 << 20 and split_sizes(corpus).validation == 10 << 20


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("oscar_de", "unshuffled_deduplicated_fr/partial-train/*.parquet"),
        ("oscar_2201_de", "compressed/fr_meta/*.jsonl.gz"),
        ("culturax_de", "fr/*.parquet"),
    ],
)
def test_another_language_is_one_word(name: str, files: str) -> None:
    config = composed(f"data={name}", "language=fr")
    (source,) = sources(config).values()
    assert source.hub is not None and source.hub.files == [files]
    assert config.data.corpora["target"].language == "fr"


def test_the_mix_is_made_of_its_parts() -> None:
    mix = composed("data=bloom_6b4")
    parts = {
        key: source
        for name in ("oscar_2201_de", "gc4_de", "open_legal_data")
        for key, source in sources(composed(f"data={name}")).items()
    }
    assert sources(mix) == parts and list(sources(mix)) == list(parts)
    clean = mix.data.corpora["target"].clean
    assert clean.near and clean.exact and clean.decontaminate == ["validation"]
    assert mix.data.tokenizers["target"].pre_tokenizer == "bloom"


def test_sources_from_the_command_line() -> None:
    at = "data.corpora.target.sources"
    config = composed("data=files", f"{at}.files.files=[a/*.jsonl.xz,'https://host/b_{{1..3}}.txt.gz']")
    assert sources(config)["files"].files == ["a/*.jsonl.xz", "https://host/b_{1..3}.txt.gz"]
    config = composed("data=hub", f"{at}.hub={{hub: {{dataset: a/b, files: ['*.parquet']}}, text: body}}")
    hub = sources(config)["hub"]
    assert hub.hub is not None and (hub.hub.dataset, hub.hub.files, hub.text) == ("a/b", ["*.parquet"], "body")


def commands() -> list[list[str]]:
    """The overrides of every command that the data files' comments and docs/data.md show."""
    lines = [line for path in (CONFIGS / "data").glob("*.yaml") for line in path.read_text("utf-8").splitlines()]
    lines += (CONFIGS.parent / "docs/data.md").read_text("utf-8").splitlines()
    shown = [line.removeprefix("# ") for line in lines if re.match(r"(# )?python prepare\.py ", line)]
    return [shlex.split(line, comments=True)[2:] for line in shown]


@pytest.mark.parametrize("overrides", commands(), ids=" ".join)
def test_every_command_that_is_shown_composes_to_another_config(overrides: list[str]) -> None:
    config = composed(*overrides)
    check(config.data)
    check_cluster(config.cluster)
    for number, override in enumerate(overrides):
        without = overrides[:number] + overrides[number + 1 :]
        if not override.startswith(("data=", "cluster=")):  # of which the others are members
            assert config != composed(*without), override


def test_texts_of_ones_own_by_the_keys_that_are_shown() -> None:
    at = "data.corpora.target"
    assert len(commands()) >= 12
    lines = composed("data=files", "files=[a.txt]", f"{at}.sources.files.reader=lines").data.corpora["target"]
    assert lines.sources["files"].reader == "lines" and lines.sources["files"].files == ["a.txt"]
    part = composed("data=hub", "dataset=a/b", f"{at}.split=in_order", f"{at}.subsample_size_mb=4096")
    assert (part.data.corpora["target"].split, part.data.corpora["target"].subsample_size_mb) == ("in_order", 4096)


def test_french_is_yaml_alone() -> None:
    config = composed("experiment=mini-fr")
    assert config.language == jobs.data_language(config) == "fr"
    assert config.data.domain_task is None
    wheels = [sources(config, corpus)["wikipedia"].wheel for corpus in ("en", "fr")]
    assert [wheel.member[-10:] for wheel in wheels if wheel] == ["en-us.json", "fr-fr.json"]
    assert {step.stage for step in expand(config)} == {"prepare", "train", "clp", "evaluate", "report"}
    assert {jobs.peak_rate(composed("experiment=mini-fr", f"method={arm}")) for arm in config.arms} == {4e-3}
    step0 = jobs.evaluate_job(composed("experiment=mini-fr", "step0=smollm2"))
    assert isinstance(step0, Step0Job) and step0.own_pack.parent.name == "fr-smollm2"
