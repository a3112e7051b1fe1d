"""Everything that can be configured: one dataclass for all stages, so that one experiment file serves them all.

The values live in `configs/`; this is what they are checked against. An unknown key or a wrong type is refused when
the config is composed, before anything heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from clp_transfer.ablations.job import AblationConfig
from clp_transfer.clp.job import MethodConfig
from clp_transfer.evaluate.job import EvaluateConfig
from clp_transfer.prepare.job import ClusterConfig, DataConfig
from clp_transfer.train.job import (
    ArchitectureConfig,
    BudgetConfig,
    DeepSpeedConfig,
    OptimConfig,
    PhasesConfig,
    TrainConfig,
    ValidationConfig,
    WandbConfig,
)


@dataclass
class PathsConfig:
    """Where results and fetched files go, relative to the working directory."""

    outputs: str = "outputs"
    cache: str = ".cache/clp-transfer"


@dataclass
class TransferConfig:
    """How `clp.py` reads and writes, whatever the method.

    `pad_to_multiple_of`: rows are added until their number is a multiple. `revision`: of a source on the hub.
    `trust_remote_code`: run a hub model's own code. `links`: `auto` lets untouched files be hard links to the source's
    (a program that rewrites one in place then changes both), `never` copies them. `device`: null: a GPU where there is
    one.
    """

    pad_to_multiple_of: int | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    links: str = "never"
    device: str | None = None


@dataclass
class StepConfig:
    """One step of the pipeline: a stage with overrides, once for every combination of the `for_each` lists.

    `for_each` maps an override's name to the config key that lists its values (`method: arms`).
    """

    stage: str = ""
    overrides: list[str] = field(default_factory=list)
    for_each: dict[str, str] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)


@dataclass
class PipelineConfig:
    """The stages of an experiment in their order, and how many run at a time.

    `seconds`: stop after so many in good order, as SIGTERM does; the same command then goes on.
    """

    workers: int = 1
    seconds: float | None = None
    steps: dict[str, StepConfig] = field(default_factory=dict)


@dataclass
class Config:
    """An experiment. `name` names its folder below `paths.outputs`; `variant` tells runs of a sweep apart. `data_of`:
    the experiment whose prepared data this one uses; null: its own.

    `one_seed`: the arms of which only the first of `seeds` is trained. `fraction`: of the tokens of every training run,
    so that 0.01 tries an experiment out at a hundredth of its cost.

    `run` says which model `train.py` and `evaluate.py` mean: the experiment's source, its helper, or a target, which
    `method` and `seed` then name. `pack` and `tokenizer` are names in `data`. `source`, `helper`, `model` are model
    folders, hub ids, GGUF files, or names in `data.models`; null means the experiment's own. `helper` may be a list of
    models with one tokenizer; an empty one means none. `out`: where `clp.py` writes (null: the experiment's folder).
    `overwrite` lets it replace what is there, and `prepare.py` data of another config. `explain`: a text whose tokens'
    rows clp.py then explains. `files`, `dataset`, `texts_dir`: what `data=files`, `data=hub` and `data=german_prose`
    read. `text`, `validation_text`: target-language text for the methods that read some; null: of `text`, the
    experiment's training pack. `texts`, `tasks`, `data_dir`, `limit`: what `evaluate.py` measures: held-out texts by
    name (a file or a list of files each), beside the experiment's validation pack for its own runs, in its place for
    any other model; tasks of lm-evaluation-harness and of ours, a folder with the tasks' data as JSON lines instead of
    the hub, and the most documents of a task. `tuning` holds, for every arm, the loss that each peak rate gave in a
    short run; the best is used where `optim.lr` is null. An arm without a row has it from what `make tune` wrote for
    the experiment `tuning_of` (null: this one). `helper_run`: the file of configs/run/ that trains the helper.
    """

    name: str = "default"
    data_of: str | None = None
    language: str = "de"
    seed: int = 1
    seeds: list[int] = field(default_factory=lambda: [1])
    arms: list[str] = field(default_factory=list)
    one_seed: list[str] = field(default_factory=list)
    fraction: float = 1.0
    variant: str = ""
    run: str = "target"
    pack: str = "target"
    tokenizer: str = "target"
    source: str | None = None
    helper: Any = None
    helper_run: str = "helper"
    model: str | None = None
    out: str | None = None
    overwrite: bool = False
    dry_run: bool = False  # `make submit` prints the job scripts and submits nothing
    files: list[str] = field(default_factory=list)
    dataset: str = ""
    texts_dir: str = "texts"
    explain: str | None = None
    text: str | None = None
    validation_text: str | None = None
    texts: Any = None  # a mapping; as such Hydra would not let the command line add names to it
    tasks: list[str] = field(default_factory=list)
    data_dir: str | None = None
    limit: int | None = None
    step0: str | None = None
    step0_methods: list[str] = field(default_factory=list)
    tuning_rates: list[float] = field(default_factory=lambda: [1e-3, 2e-3, 4e-3])
    tuning_tokens: int = 200_000
    tuning: dict[str, dict[float, float]] = field(default_factory=dict)
    tuning_of: str | None = None
    paths: PathsConfig = field(default_factory=PathsConfig)
    data: DataConfig = field(default_factory=DataConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    phases: PhasesConfig = field(default_factory=PhasesConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
