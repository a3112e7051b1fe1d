"""From a config to a stage's job: names become folders, defaults become values."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from clp_transfer.clp.job import TRANSFERS, MethodConfig, TransferJob
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.evaluate.job import EvaluateJob, Step0Job
from clp_transfer.files import read_json
from clp_transfer.prepare.job import DataFolder, PrepareJob
from clp_transfer.report.find import sweeps
from clp_transfer.report.job import ArmRun, ReportJob
from clp_transfer.train.job import ArchitectureConfig, PhasesConfig, PlannedRun, RunFolder, TrainJob, best_rate

TARGET, SOURCE, HELPER = "target", "source", "helper"


def root(config: Config) -> Path:
    """The experiment's folder."""
    return Path(config.paths.outputs) / config.name


def data_folder(config: Config) -> DataFolder:
    """The experiment's prepared data."""
    return DataFolder(root(config) / "data")


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


def prepare_job(config: Config) -> PrepareJob:
    """The job of `prepare.py`."""
    return PrepareJob(
        config.data, data_folder(config).root, Path(config.paths.cache), config.seed, config.overwrite, config.cluster
    )


def transfer_job(config: Config) -> TransferJob:
    """The job of `clp.py`.

    The target's tokenizer is that of `helper=` where one is given, else `tokenizer=` (a name of data.tokenizers, a
    folder or a hub id).
    """
    _refuse_missing_vectors(config.method)
    own = config.helper is None
    tokenizer = data_folder(config).tokenizer(config.tokenizer) if config.tokenizer in config.data.tokenizers else None
    return TransferJob(
        source=any_model(config, config.source, own_model(config, SOURCE)),
        helpers=_helpers(config),
        tokenizer=(tokenizer or config.tokenizer) if own else None,
        method=config.method,
        out=Path(config.out).expanduser().absolute() if config.out else init_folder(config),
        seed=config.seed,
        language=config.language,
        text=_text(config, own),
        validation=Path(config.validation_text) if config.validation_text else None,
        pad_to_multiple_of=config.transfer.pad_to_multiple_of,
        revision=config.transfer.revision,
        trust_remote_code=config.transfer.trust_remote_code,
        cache=Path(config.paths.cache) / "models",
        overwrite=config.overwrite or config.out is None,
        links=config.transfer.links,
        device=config.transfer.device or "auto",
    )


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


def _helpers(config: Config) -> list[str | Path]:
    """The helpers that are named, else the experiment's own."""
    if config.helper is None:
        return [own_model(config, HELPER).model]
    named = [config.helper] if isinstance(config.helper, str) else config.helper
    return [any_model(config, one) for one in named]


def any_model(config: Config, named: str | None, default: RunFolder | None = None) -> str | Path:
    """A model by its name in the data, else as it is named: a folder, a GGUF file or a hub id."""
    if named is None and default is not None:
        return default.model
    return data_folder(config).model(str(named)) if named in config.data.models else str(named)


def _text(config: Config, own_tokenizer: bool) -> Path | None:
    """The text for the methods that read some: the one named, else the experiment's training pack if it is there."""
    if config.text is not None:
        return Path(config.text)
    pack = data_folder(config).pack(config.pack, "train")
    return pack if own_tokenizer and pack.with_suffix(".json").is_file() else None


def train_job(config: Config) -> TrainJob:
    """The job of `train.py`; raises UserError where no learning rate is known."""
    if config.tokenizer not in config.data.tokenizers:
        raise UserError(
            f"tokenizer={config.tokenizer} is not in data.tokenizers",
            f"choose one of {', '.join(config.data.tokenizers)}",
        )
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
        budget=config.budget,
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
        vocabulary=wanted.vocab_size if wanted is not None else None,
    )


def _budget_tokens(config: Config) -> int:
    """Tokens of one run; epochs are counted in the pack, so it has to be there."""
    budget = config.budget
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


def data_language(config: Config) -> str:
    """The language of the pack that is trained on."""
    pack = config.data.packs.get(config.pack)
    if pack is None:
        raise UserError(f"pack={config.pack} is not in data.packs", f"choose one of {', '.join(config.data.packs)}")
    corpus = config.data.corpora.get(pack.corpus)
    return corpus.language if corpus is not None and corpus.language else pack.corpus


def peak_rate(config: Config) -> float:
    """`optim.lr`, or the best rate of the arm's row in the tuning table."""
    if config.optim.lr is not None:
        return config.optim.lr
    table = config.tuning.get(config.method.name)
    if not table:
        raise UserError(
            f"no learning rate: optim.lr is null and tuning has no row for method {config.method.name}",
            "set optim.lr=…, or add the arm's row to the experiment's tuning table",
        )
    return best_rate(table)


def evaluate_job(config: Config) -> EvaluateJob | Step0Job:
    """The job of `evaluate.py`: one model, or with `step0=<model>` every method's start on that source.

    `model=` may be any: its result lies in `evaluations/` under the last part of its name. Where texts or tasks are
    named, it is measured on them alone, not on the experiment's labelled task.
    """
    if config.step0 is not None:
        data_language(config)
        return _step0_job(config, config.step0)
    data, stranger = data_folder(config), config.model is not None
    _refuse_what_has_no_effect(config)
    task = config.data.domain_task if not (stranger and (config.texts or config.tasks)) else None
    pack = None
    if not config.texts:
        data_language(config)
        pack = data.pack(config.pack, "validation")
        if stranger and config.tasks and not pack.with_suffix(".json").is_file():
            pack = None
    tokenizer = config.data.packs[config.pack].tokenizer if pack is not None else config.tokenizer
    return EvaluateJob(
        model=any_model(config, config.model, run_folder(config)),
        validation_pack=pack,
        task=data.domain_task if task else None,
        labels=task.labels if task else [],
        config=config.evaluate,
        out=root(config) / "evaluations" / (_last_part(str(config.model)) if stranger else run_name(config)),
        seed=config.seed,
        tokenizer=data.tokenizer(tokenizer) if tokenizer in config.data.tokenizers else None,
        texts=_texts(config.texts),
        tasks=config.tasks,
        data_dir=Path(config.data_dir).expanduser() if config.data_dir else None,
        limit=config.limit,
        cache=Path(config.paths.cache),
    )


def _refuse_what_has_no_effect(config: Config) -> None:
    """Raise UserError for a value that would be read by nothing."""
    if not config.tasks and (config.data_dir or config.evaluate.fewshot):
        key = "data_dir" if config.data_dir else "evaluate.fewshot"
        raise UserError(f"{key} is set, but no tasks are named that read it", "name some: tasks=[xnli_de]")
    if config.evaluate.revision and (config.model is None or Path(config.model).expanduser().exists()):
        raise UserError(
            f"evaluate.revision={config.evaluate.revision} is of a hub model, and the model is a folder here",
            "give a hub id as model=, or leave evaluate.revision out",
        )


def _last_part(model: str) -> str:
    """The folder's name for a model that is not the experiment's own."""
    return Path(model).expanduser().resolve().name if Path(model).expanduser().exists() else model.rpartition("/")[2]


def _texts(texts: object) -> dict[str, list[Path]]:
    """The files of every named text."""
    if texts is not None and not isinstance(texts, dict):
        raise UserError(f"texts={texts} gives no names", "texts={news: a.jsonl, novels: [b.txt, c.txt.xz]}")
    return {str(name): _paths(name, files) for name, files in (texts or {}).items()}


def _paths(name: str, files: object) -> list[Path]:
    """A text's files, given as one or as a list."""
    listed = [files] if isinstance(files, str) else files
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) for one in listed):
        raise UserError(f"texts.{name}={files} is neither a file nor a list of files", "texts={news: [a.jsonl, b.txt]}")
    return [Path(one).expanduser() for one in listed]


def _step0_job(config: Config, source: str) -> Step0Job:
    data = data_folder(config)
    unknown = [name for name in config.step0_methods if name not in TRANSFERS]
    if unknown:
        raise UserError(
            f"step0_methods has {', '.join(unknown)}, of which there are no rows before training",
            f"choose from {', '.join(TRANSFERS)}",
        )
    own = f"{data_language(config)}-{source}"
    if own not in config.data.packs:
        raise UserError(
            f"step0={source} needs the validation text in {source}'s own tokens: data.packs has no {own}",
            f"add the pack {own}: {{corpus: {data_language(config)}, tokenizer: {source}, splits: [validation]}}",
        )
    return Step0Job(
        source=model_folder(config, source, own_model(config, SOURCE)),
        helpers=_helpers(config),
        tokenizer=data.tokenizer(config.tokenizer),
        methods=[_method(config, name) for name in config.step0_methods],
        pack=data.pack(config.pack, "validation"),
        own_pack=data.pack(own, "validation"),
        config=config.evaluate,
        out=root(config) / "step0" / source,
        seed=config.seed,
        text=_text(config, True) if any(_method(config, name).reads_text for name in config.step0_methods) else None,
    )


def _method(config: Config, name: str) -> MethodConfig:
    """A method by name, with the config's method options."""
    return replace(config.method, name=name)


def report_job(config: Config) -> ReportJob:
    """The job of the report: every arm with every seed, the ingredients, the step-0 tables."""
    arms = []
    for arm in config.arms:
        for seed in config.seeds:
            one = replace(config, run=TARGET, method=_method(config, arm), seed=seed, variant="")
            evaluation = root(config) / "evaluations" / run_name(one)
            arms.append(ArmRun(arm, seed, run_folder(one).root, init_folder(one), evaluation))
    ingredients = {name: own_model(config, name).root for name in (SOURCE, HELPER)}
    return ReportJob(
        name=config.name,
        out=root(config) / "report",
        data=data_folder(config).root,
        arms=arms + sweeps(root(config), arms),
        ingredients={name: path for name, path in ingredients.items() if getattr(config, name) is None},
        step0={p.name: p for p in sorted((root(config) / "step0").glob("*")) if (p / "manifest.json").is_file()},
        config=asdict(config),
    )
