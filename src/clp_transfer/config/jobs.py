"""From a config to a stage's job: names become folders, defaults become values."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path

from clp_transfer.clp.job import AUTO, NEEDS_HELPER, OWN_TOKENIZER, MethodConfig, TransferJob
from clp_transfer.config.evaluate_jobs import evaluate_job
from clp_transfer.config.folders import (
    HELPER,
    SOURCE,
    TARGET,
    any_model,
    data_folder,
    data_language,
    helpers_of,
    init_folder,
    model_folder,
    own_model,
    root,
    run_folder,
    run_name,
    seeds_of,
    text_of,
    tuning_file,
    with_method,
)
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.files import read_json
from clp_transfer.prepare.job import PrepareJob
from clp_transfer.report.find import helpers, sweeps
from clp_transfer.report.job import ArmRun, ReportJob
from clp_transfer.train.job import (
    ArchitectureConfig,
    BudgetConfig,
    PhasesConfig,
    PlannedRun,
    RunFolder,
    TrainJob,
    best_rate,
)

log = logging.getLogger(__name__)
__all__ = ["evaluate_job", "prepare_job", "report_job", "train_job", "transfer_job"]


def prepare_job(config: Config) -> PrepareJob:
    """The job of `prepare.py`; raises UserError for `files` or `dataset` that no source of the data reads."""
    _refuse_unread(config)
    return PrepareJob(
        config.data, data_folder(config).root, Path(config.paths.cache), config.seed, config.overwrite, config.cluster
    )


def _refuse_unread(config: Config) -> None:
    """Raise UserError for texts that are named and would not be read: other texts would be prepared in their place."""
    corpora = config.data.corpora.values()
    sources = [source for corpus in corpora for source in (*corpus.sources.values(), corpus.validation) if source]
    read = {
        "files": {file for source in sources for file in source.files},
        "dataset": {source.hub.dataset for source in sources if source.hub},
    }
    named = {"files": config.files, "dataset": [config.dataset] if config.dataset else []}
    groups = {"files": "data=files", "dataset": "data=hub"}
    for key, values in named.items():
        if unread := [value for value in values if value not in read[key]]:
            raise UserError(
                f"{key}={', '.join(unread)}: no source of the data reads this",
                f"add {groups[key]} (and name=… for the new data), or leave {key}= out",
            )


def transfer_job(config: Config) -> TransferJob:
    """The job of `clp.py`.

    The target's tokenizer is that of `helper=` where one is given, else `tokenizer=` (a name of data.tokenizers, a
    folder or a hub id); always the latter for the source with its own tokenizer. One that is given beside a helper,
    and is no such name, goes with it, and the transfer refuses it if it is another.
    """
    _refuse_missing_vectors(config.method)
    own = not config.helper or config.method.name == OWN_TOKENIZER
    return TransferJob(
        source=any_model(config, config.source, own_model(config, SOURCE)),
        helpers=_helpers(config),
        tokenizer=_tokenizer(config, own),
        method=config.method,
        out=Path(config.out).expanduser().absolute() if config.out else init_folder(config),
        seed=config.seed,
        language=config.language,
        text=text_of(config, own),
        validation=Path(config.validation_text) if config.validation_text else None,
        pad_to_multiple_of=config.transfer.pad_to_multiple_of,
        revision=config.transfer.revision,
        trust_remote_code=config.transfer.trust_remote_code,
        cache=Path(config.paths.cache) / "models",
        overwrite=config.overwrite or config.out is None,
        links=config.transfer.links,
        device=config.transfer.device or "auto",
    )


def _helpers(config: Config) -> list[str | Path]:
    """The helpers of a transfer: the experiment's own only for a method that uses it, as it need not be there else."""
    uses = config.method.name in NEEDS_HELPER or config.method.name == AUTO
    return helpers_of(config) if config.helper is not None or uses else []


def _tokenizer(config: Config, own: bool) -> str | Path | None:
    """The target's tokenizer; None: that of the helper which is given (`own` is false)."""
    if config.tokenizer in config.data.tokenizers:
        return data_folder(config).tokenizer(config.tokenizer) if own else None
    # The default name says nothing where the data have no tokenizer of that name.
    return config.tokenizer if own or config.tokenizer != TARGET else None


def _refuse_missing_vectors(method: MethodConfig) -> None:
    """Raise UserError for wechsel without its files: a chain would else find out when its data is made, days later."""
    needed = ("vectors", "source_vectors", "dictionary") if method.name == "wechsel" else ()
    for option in needed:
        named = getattr(method, option)
        if named is None or not Path(named).expanduser().is_file():
            found = "is not set" if named is None else f"names {named}, where there is no file"
            raise UserError(
                f"method=wechsel needs three files, and method.{option} {found}",
                "set method.vectors and method.source_vectors (word vectors: target's, source's) and method.dictionary",
            )


def train_job(config: Config) -> TrainJob:
    """The job of `train.py`; raises UserError where no learning rate is known."""
    if config.tokenizer not in config.data.tokenizers:
        raise UserError(
            f"tokenizer={config.tokenizer} is not in data.tokenizers",
            f"choose one of {', '.join(config.data.tokenizers)}",
        )
    _tell_of_idle_phases(config)
    data, target = data_folder(config), config.run == TARGET
    model = init_folder(config) if target else None
    if config.model is not None:
        model = model_folder(config, config.model, run_folder(config))
    return TrainJob(
        name=f"{config.name}/{run_name(config)}",
        group=config.name,
        job_type=config.method.name if target else config.run,
        out=run_folder(config).root,
        model=model,
        architecture=config.architecture,
        tokenizer=data.tokenizer(config.tokenizer),
        train_pack=data.pack(config.pack, "train"),
        validation_pack=data.pack(config.pack, "validation"),
        budget=_budget(config),
        optim=replace(config.optim, lr=peak_rate(config)),
        validation=config.validation,
        train=config.train,
        deepspeed=config.deepspeed,
        wandb=config.wandb,
        seed=config.seed,
        language=data_language(config),
        base_model=str(model or "none"),
        phases=config.phases if target else PhasesConfig(),
    )


def _tell_of_idle_phases(config: Config) -> None:
    """Warn of phases that this run does not have. No error: an experiment sets them for all of its runs at once."""
    if config.run != TARGET:
        if config.phases.share > 0:
            log.warning("phases are for targets: run=%s has none and trains everything from its first step", config.run)
        return
    default = asdict(PhasesConfig())
    idle = [f"phases.{key}={value}" for key, value in asdict(config.phases).items() if value != default[key]]
    if config.phases.share == 0 and idle:
        log.warning("phases.share is 0: there is no first phase, and without effect are %s", ", ".join(idle))


def planned_run(config: Config, source: ArchitectureConfig, times: int) -> PlannedRun:
    """What `make plan` asks about a training run; `source`: the architecture of the experiment's own source.

    A source that is no folder here has the shape of the config's `architecture`, if that is `of` it: no hub is asked.
    """
    model, architecture = None, config.architecture
    named = config.model or config.source
    known = named is not None and named == architecture.of and not Path(named).expanduser().exists()
    if config.run == TARGET and not known:
        model, architecture = None if named is None else str(any_model(config, named)), source
    wanted = config.data.tokenizers.get(config.tokenizer)
    return PlannedRun(
        name="targets" if config.run == TARGET and times > 1 else config.run,
        times=times,
        tokens=_budget_tokens(config),
        length=config.budget.sequence_length,
        model=model,
        architecture=architecture,
        vocabulary=wanted.vocab_size if wanted is not None and wanted.model is None else None,
        batch_tokens=config.budget.batch_tokens,
    )


def _budget(config: Config) -> BudgetConfig:
    """The run's budget, of which `fraction` is asked for."""
    budget, share = config.budget, config.fraction
    if share == 1:
        return budget
    steps = None if budget.steps is None else max(1, round(share * budget.steps))
    epochs = None if budget.epochs is None else share * budget.epochs
    return replace(budget, tokens=max(1, round(share * budget.tokens)), steps=steps, epochs=epochs)


def _budget_tokens(config: Config) -> int:
    """Tokens of one run; epochs are counted in the pack, so it has to be there."""
    budget = _budget(config)
    if budget.steps is not None:
        return budget.steps * budget.batch_tokens
    if budget.epochs is None:
        return budget.tokens
    pack = data_folder(config).pack(config.pack, "train").with_suffix(".json")
    if not pack.is_file():
        raise UserError(
            f"budget.epochs={budget.epochs:g}: how many tokens that are is not known before {pack} is there",
            "run prepare.py first, or plan with budget.tokens=…",
        )
    return round(budget.epochs * read_json(pack)["tokens"])


def peak_rate(config: Config) -> float:
    """`optim.lr`, or the best rate of the arm's row in the tuning table: the config's, else what `make tune` wrote."""
    if config.optim.lr is not None:
        return config.optim.lr
    written = tuning_file(config)
    table = config.tuning.get(config.method.name) or _tuned(written).get(config.method.name)
    if not table:
        raise UserError(
            f"no learning rate: optim.lr is null, and neither tuning nor {written} has a row for method "
            f"{config.method.name}",
            "run `make tune` for this experiment, or set optim.lr=…",
        )
    return best_rate(table)


def _tuned(path: Path) -> dict[str, dict[float, float]]:
    """The rows that `make tune` wrote, without rates at which the loss was no number; empty where it has not run."""
    found = read_json(path) if path.is_file() else {}
    return {arm: {float(lr): loss for lr, loss in row.items() if loss is not None} for arm, row in found.items()}


def report_job(config: Config) -> ReportJob:
    """The job of the report: every arm with every seed, the ingredients, the step-0 tables."""
    arms = []
    for arm in config.arms:
        for seed in seeds_of(config, arm):
            one = replace(config, run=TARGET, method=with_method(config, arm), seed=seed, variant="")
            evaluation = root(config) / "evaluations" / run_name(one)
            arms.append(ArmRun(arm, seed, run_folder(one).root, init_folder(one), evaluation))
    return ReportJob(
        name=config.name,
        out=root(config) / "report",
        data=data_folder(config).root,
        arms=arms + sweeps(root(config), arms),
        ingredients=_ingredients(config),
        step0={p.name: p for p in sorted((root(config) / "step0").glob("*")) if (p / "manifest.json").is_file()},
        config=asdict(config),
    )


def _ingredients(config: Config) -> dict[str, Path]:
    """The runs of the models that the arms needed; of one that is named, where it was trained here (`<run>/model`)."""
    found = {name: own_model(config, name).root for name in (SOURCE, HELPER) if getattr(config, name) is None}
    return found | _named_helpers(config)


def _named_helpers(config: Config) -> dict[str, Path]:
    """The helper that is named, where it was trained here; where the experiment has one for every seed, all of them."""
    if not isinstance(config.helper, str):
        return {}
    named, runs = Path(config.helper).parent, {}
    base, mark, seed = named.name.rpartition(",seed")
    if mark and seed == str(config.seed) and named.parent == root(config) / "runs":
        runs = {seed: named.with_name(f"{base},seed{seed}") for seed in config.seeds}
    trained = {seed: path for seed, path in runs.items() if RunFolder(path).summary.is_file()}
    return helpers(trained or ({config.seed: named} if RunFolder(named).summary.is_file() else {}))
