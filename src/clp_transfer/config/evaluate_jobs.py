"""The job of `evaluate.py` from a config: a model measured, or every method's start on a source."""

from __future__ import annotations

import re
from pathlib import Path

from clp_transfer.clp.job import TRANSFERS
from clp_transfer.config.folders import (
    SOURCE,
    any_model,
    data_folder,
    data_language,
    helpers_of,
    model_folder,
    own_model,
    root,
    run_folder,
    run_name,
    text_of,
    with_method,
)
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError
from clp_transfer.evaluate.job import EvaluateJob, Step0Job
from clp_transfer.files import sha256_json

TASKS = "name some: tasks=[clp_xnli_de]"
UPSTREAM = "clp_german_modern"  # a group of ours whose tasks are upstream's
LONGEST = 100  # characters of a folder's own name


def evaluate_job(config: Config) -> EvaluateJob | Step0Job:
    """The job of `evaluate.py`: one model, or with `step0=<model>` every method's start on that source.

    `model=` may be any: its result lies in `evaluations/` under its own name, to which a sweep adds its variant. Where
    texts or tasks are named, it is measured on them alone, not on the experiment's labelled task. The experiment's own
    runs are measured on its validation pack in any case, which their curves are of.
    """
    if config.step0 is not None:
        data_language(config)
        return _step0_job(config, config.step0)
    data, stranger = data_folder(config), config.model is not None
    _refuse_what_has_no_effect(config)
    task = config.data.domain_task if not (stranger and (config.texts or config.tasks)) else None
    if config.limit is not None and not config.tasks and not task:
        raise UserError(f"limit={config.limit} is set, but no tasks are named whose documents it could limit", TASKS)
    pack = None
    if not config.texts or not stranger:
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
        out=root(config) / "evaluations" / (_stranger_name(config) if stranger else run_name(config)),
        seed=config.seed,
        tokenizer=data.tokenizer(tokenizer) if tokenizer in config.data.tokenizers else None,
        texts=_texts(config.texts),
        tasks=config.tasks,
        data_dir=Path(config.data_dir).expanduser() if config.data_dir else None,
        limit=config.limit,
        cache=Path(config.paths.cache),
        is_own=not stranger,
    )


def _refuse_what_has_no_effect(config: Config) -> None:
    """Raise UserError for a value that would be read by nothing."""
    if not config.tasks and (config.data_dir or config.evaluate.fewshot):
        key = "data_dir" if config.data_dir else "evaluate.fewshot"
        raise UserError(f"{key} is set, but no tasks are named that read it", TASKS)
    if config.data_dir and not any(name.startswith("clp_") and name != UPSTREAM for name in config.tasks):
        raise UserError(f"data_dir is set, but none of tasks={config.tasks} reads it: upstream's have their own", TASKS)
    if config.evaluate.revision and (config.model is None or Path(config.model).expanduser().exists()):
        raise UserError(
            f"evaluate.revision={config.evaluate.revision} is of a hub model, and the model is a folder here",
            "give a hub id as model=, or leave evaluate.revision out",
        )


def _stranger_name(config: Config) -> str:
    """The result's folder for a model that is not the experiment's own.

    A name of `data.models` is kept, a hub id becomes `owner--name`. A folder is called by its last part (`model` by its
    parent's), and by a hash of its whole path, since many have the same last part.
    """
    named = str(config.model)
    path = Path(named).expanduser()
    if named not in config.data.models and path.exists():
        whole = path.resolve()
        last = whole.parent.name if whole.name == "model" else whole.name
        name = f"{last[:LONGEST]}-{sha256_json(str(whole))[:8]}"
    else:
        name = re.sub(r"/+", "--", named.strip("/"))
    return f"{name},{config.variant}" if config.variant else name


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
    own = _own_pack(config, source)
    if own not in config.data.packs:
        raise UserError(
            f"step0={source} needs the validation text in {source}'s own tokens: data.packs has no {own}",
            f"add the pack {own}: {{corpus: {data_language(config)}, tokenizer: {source}, splits: [validation]}}",
        )
    return Step0Job(
        source=model_folder(config, source, own_model(config, SOURCE)),
        helpers=helpers_of(config),
        tokenizer=data.tokenizer(config.tokenizer),
        methods=[with_method(config, name) for name in config.step0_methods],
        pack=data.pack(config.pack, "validation"),
        own_pack=data.pack(own, "validation"),
        config=config.evaluate,
        out=root(config) / "step0" / (f"{source},{config.variant}" if config.variant else source),
        seed=config.seed,
        text=text_of(config, True)
        if any(with_method(config, name).reads_text for name in config.step0_methods)
        else None,
    )


def _own_pack(config: Config, source: str) -> str:
    """The pack of the text that is trained on, in the source's own tokens; without one, what it is to be called."""
    packs, corpus = config.data.packs, config.data.packs[config.pack].corpus
    tokenizers = {name for name, one in config.data.tokenizers.items() if one.model == source}
    found = (name for name, pack in packs.items() if pack.corpus == corpus and pack.tokenizer in tokenizers)
    return next(found, f"{data_language(config)}-{source}")
