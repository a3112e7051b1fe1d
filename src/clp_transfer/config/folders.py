"""Where an experiment's things lie, and which models and texts a config means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clp_transfer.clp.job import OWN_TOKENIZER, MethodConfig
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.prepare.folder import DataFolder
from clp_transfer.train.job import RunFolder

TARGET, SOURCE, HELPER = "target", "source", "helper"


def root(config: Config) -> Path:
    """The experiment's folder."""
    return Path(config.paths.outputs) / config.name


def data_folder(config: Config) -> DataFolder:
    """The experiment's prepared data, or that of the experiment named by `data_of`."""
    return DataFolder(Path(config.paths.outputs) / (config.data_of or config.name) / "data")


def run_name(config: Config) -> str:
    """What a run is called: `source`, `helper`, or the arm and its seed; a sweep adds its variant."""
    name = f"{config.method.name}-seed{config.seed}" if config.run == TARGET else config.run
    return f"{name},{config.variant}" if config.variant else name


def run_folder(config: Config) -> RunFolder:
    """Where the run's model and metrics lie."""
    return RunFolder(root(config) / "runs" / run_name(config))


def init_folder(config: Config) -> Path:
    """Where the arm's initialised, untrained model lies; training variants share it."""
    return root(config) / "init" / f"{config.method.name}-seed{config.seed}"


def model_folder(config: Config, named: str | None, default: RunFolder) -> Path:
    """A model given by folder or by its name in the data; null is the default run's model."""
    if named is None:
        return default.model
    if named in config.data.models:
        return data_folder(config).model(named)
    if not Path(named).is_dir():
        raise UserError(
            f"there is no model folder {named}",
            f"give a folder, or a name of data.models: {', '.join(config.data.models) or 'none here'}",
        )
    return Path(named)


def own_model(config: Config, run: str) -> RunFolder:
    """The run folder of the experiment's own source or helper."""
    return run_folder(replace(config, run=run, variant=""))


def any_model(config: Config, named: str | None, default: RunFolder | None = None) -> str | Path:
    """A model by its name in the data, else as it is named: a folder, a GGUF file or a hub id."""
    if named is None and default is not None:
        return default.model
    return data_folder(config).model(str(named)) if named in config.data.models else str(named)


def helpers_of(config: Config) -> list[str | Path]:
    """The helpers that are named, else the experiment's own; none for the source with its own tokenizer."""
    if config.method.name == OWN_TOKENIZER:
        return []
    if config.helper is None:
        return [own_model(config, HELPER).model]
    named = [config.helper] if isinstance(config.helper, str) else config.helper
    return [any_model(config, one) for one in named]


def text_of(config: Config, own_tokenizer: bool) -> Path | None:
    """The text for the methods that read some: the one named, else the experiment's training pack if it is there."""
    if config.text is not None:
        return Path(config.text)
    pack = data_folder(config).pack(config.pack, "train")
    return pack if own_tokenizer and pack.with_suffix(".json").is_file() else None


def seeds_of(config: Config, arm: str) -> list[int]:
    """The seeds that an arm is trained with."""
    return config.seeds[:1] if arm in config.one_seed else config.seeds


def tuning_file(config: Config) -> Path:
    """What `make tune` writes: for every arm the loss that each peak rate gave."""
    return Path(config.paths.outputs) / (config.tuning_of or config.name) / "tuning.json"


def data_language(config: Config) -> str:
    """The language of the pack that is trained on."""
    pack = config.data.packs.get(config.pack)
    if pack is None:
        raise UserError(f"pack={config.pack} is not in data.packs", f"choose one of {', '.join(config.data.packs)}")
    corpus = config.data.corpora.get(pack.corpus)
    return corpus.language if corpus is not None and corpus.language else pack.corpus


def with_method(config: Config, name: str) -> MethodConfig:
    """A method by name, with the config's method options."""
    return replace(config.method, name=name)
