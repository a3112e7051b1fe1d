"""A model's zero-shot (or few-shot) results on named tasks, each finished one kept."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random as python_random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clp_transfer.errors import UserError
from clp_transfer.evaluate import task_names
from clp_transfer.evaluate.harness import check_evaluate_package, quiet
from clp_transfer.evaluate.task_rows import failed, row
from clp_transfer.evaluate.tasks import data
from clp_transfer.files import read_json, sha256_file, sha256_json, write_json
from clp_transfer.train.together import gather, on_main, ranks

log = logging.getLogger(__name__)
# Resamples behind the standard error of upstream's metrics that have no formula for it.
BOOTSTRAP = 1000


def zero_shot(
    model: torch.nn.Module,
    tokenizer: Any,
    names: list[str],
    *,
    data_dir: Path | None,
    limit: int | None,
    fewshot: int,
    batch_size: int,
    cache: Path,
    model_key: str,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Results by task of a causal language model in memory; groups are replaced by their tasks.

    `names`: tasks or groups (`task_names`). `data_dir`: JSON lines of the paper's tasks instead of the hub's data.
    `limit`: the first documents of each task. `fewshot`: examples before each question, drawn by `seed` from
    training documents. `cache`: a folder for the rows of finished tasks, found again by `model_key` (the weights and
    the tokenizer; the precision is added), the task's version, its data and the settings. A task that was interrupted
    goes on with the answers that it has.

    A row of the paper's classification tasks: `acc`, `stderr` (sample standard deviation / √n), `documents`, `random`,
    `majority`, `labels`, `distinguishable` (`harness.is_distinguishable`), `precision`, `recall`, `f1` with `average`,
    and `acc_pmi`, `acc_length_normalised` (`calibrated.CalibratedTask`) with `stderr_…` and `distinguishable_…`; of
    clp_oscar_ppl_de: `word_perplexity`, `byte_perplexity`, `bits_per_byte`; of others: the harness's metrics by name.
    Each has `documents`, `fewshot`, `limit`, `version`, `dtype` (of the weights, which the harness computes in) and
    `error`: None, or why the task could not be measured (no data, no network, log-likelihoods that are not finite, no
    memory). Other tasks go on, and it is tried again next time.

    Where torch.distributed is initialised, every rank calls this with the whole model, and the documents are shared
    among them; all get the rows. Raises UserError for what cannot be meant: an unknown name, broken local data,
    examples without training documents, `limit` or `batch_size` below 1.
    """
    check_evaluate_package()
    _check_numbers(limit, fewshot, batch_size)
    tasks = task_names.expand(names)
    _check_data([name for name in tasks if task_names.is_ours(name)], data_dir, fewshot)
    settings = {"model": model_key, "dtype": str(next(model.parameters()).dtype), "limit": limit, "fewshot": fewshot}
    settings |= {"seed": seed, "data_dir": None if data_dir is None else str(data_dir)}
    training, rows = model.training, {}
    try:
        for name in tasks:
            rows[name] = _kept_or_measured(name, model, tokenizer, batch_size, cache, settings)
    finally:
        model.train(training)
    return rows


def _kept_or_measured(
    name: str, model: torch.nn.Module, tokenizer: Any, batch_size: int, cache: Path, settings: dict[str, Any]
) -> dict[str, Any]:
    """The kept row of a task with exactly these settings, or a new one, which is kept if nothing failed."""
    version = task_names.version(name)
    key = {**settings, "task": name, "version": version, "data": _data_hash(name, settings)}
    del key["data_dir"]  # its content counts, not its name
    if task_names.is_ours(name) and not settings["fewshot"]:
        del key["seed"]  # nothing is drawn
    path = cache / f"{name}-{sha256_json(key)[:16]}.json"
    dtype = settings["dtype"].removeprefix("torch.")
    kept = on_main(lambda: read_json(path) if path.is_file() else None)
    if kept is not None:
        return {**kept["row"], "dtype": dtype}
    started = time.time()
    found = _measured(name, model, tokenizer, batch_size, path.with_suffix(".requests"), settings)
    row = {"fewshot": settings["fewshot"], "limit": settings["limit"], "version": version, "dtype": dtype}
    row |= {"error": None} | found
    if row["error"] is None:
        on_main(lambda: write_json(path, {"key": key, "row": row}))
    log.info("%s: %s (%.0f s)", name, summary(row), time.time() - started)
    return row


def _measured(
    name: str, model: torch.nn.Module, tokenizer: Any, batch_size: int, answers: Path, settings: dict[str, Any]
) -> dict[str, Any]:
    """Load the task and run it; the row, or `error` alone. All ranks return the same."""
    task, error = None, None
    with quiet(), _seeded(settings["seed"]):
        try:
            task = _load(name, settings)
        except Exception as caught:
            error = _reason(caught)
        if failures := [told for told in gather(error) if told is not None]:
            return failed(failures[0])
        try:
            return _run(name, task, model, tokenizer, batch_size, answers, settings["limit"])
        except Exception as caught:
            if ranks() > 1:  # the others wait for this rank's numbers: no row can be made of that
                raise
            return failed(_reason(caught))


def _load(name: str, settings: dict[str, Any]) -> Any:
    """The harness's task with its documents."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    from clp_transfer.evaluate.calibrated import CalibratedTask

    fewshot = settings["fewshot"]
    if task_names.is_ours(name):
        config = load_yaml(task_names.TASKS / f"{name}.yaml", resolve_func=True)
        choices = config["output_type"] == "multiple_choice"
        train = fewshot > 0 and choices
        config["metadata"] |= {"data_dir": settings["data_dir"], "train": train}
        config |= {"fewshot_split": "train", "num_fewshot": fewshot} if train else {}
        task = CalibratedTask(config=config) if choices else ConfigurableTask(config=config)
    else:
        task = task_names.upstream().load([name])["tasks"][name]
        if task.get_config("num_fewshot") != 0:  # a task that says 0 means it, as in the harness
            task.set_config(key="num_fewshot", value=fewshot)
    task.set_fewshot_seed(seed=settings["seed"])
    return task


def _run(
    name: str, task: Any, model: torch.nn.Module, tokenizer: Any, batch_size: int, answers: Path, limit: int | None
) -> dict[str, Any]:
    from lm_eval import evaluate

    from clp_transfer.evaluate.task_model import RememberingModel, TaskModel

    documents = min(limit or len(task.eval_docs), len(task.eval_docs))
    # Fewer documents than ranks would leave one with nothing, which the harness refuses: each does them all.
    lm: Any = TaskModel(model, tokenizer, batch_size, split=documents >= ranks())
    remembers = lm.world_size == 1 or task.OUTPUT_TYPE == "multiple_choice"
    if remembers:  # the ranks' other requests must keep step, whatever one of them remembers
        lm = RememberingModel(lm, answers.with_suffix(f".{lm.rank}of{lm.world_size}.requests"))
    ours = task_names.is_ours(name)
    results: Any = evaluate(
        lm=lm,
        task_dict={"tasks": {name: task}},
        limit=limit,
        bootstrap_iters=1 if ours else BOOTSTRAP,  # a mean's standard error has a formula: any positive number
        log_samples=True,
    )
    if remembers:
        lm.dbdict.forget()
    found = None
    if results is not None:
        try:
            found = row(task, results["results"][name], results["samples"][name])
        except ValueError as error:
            found = failed(_reason(error))
        found["fewshot"] = task.get_config("num_fewshot") or 0
    return dict(gather(found)[0])


def summary(row: dict[str, Any]) -> str:
    """A row in one line of words."""
    if row["error"] is not None:
        return f"not measured: {row['error']}"
    if row.get("acc") is None:
        known = ("word_perplexity", "bits_per_byte", "documents")
        return ", ".join(f"{name} {row[name]:g}" for name in known if row.get(name) is not None)
    guess = ", ".join(f"{name} {row[name]:.3f}" for name in ("random", "majority") if row.get(name) is not None)
    verdict = "; not distinguishable from chance" if row.get("distinguishable") is False else ""
    error = "" if row["stderr"] is None else f" ± {row['stderr']:.3f}"
    return f"accuracy {row['acc']:.3f}{error} on {row['documents']} documents ({guess}{verdict})"


def _check_numbers(limit: int | None, fewshot: int, batch_size: int) -> None:
    for name, value, least in (("limit", limit, 1), ("fewshot", fewshot, 0), ("batch_size", batch_size, 1)):
        if value is not None and value < least:
            raise UserError(f"{name}={value} makes no sense", f"expected: {least} or more")


def _check_data(names: list[str], data_dir: Path | None, fewshot: int) -> None:
    """Read all local data before anything is computed; a file that is not there only fails its own task."""
    if data_dir is None:
        return
    if not data_dir.is_dir():
        raise UserError(f"data_dir={data_dir} is not a folder", "name the folder that holds the tasks' *.jsonl files")
    for name in names:
        source = name.removeprefix("clp_")
        train = data.local_file(source, "train", data_dir)
        test = data.local_file(source, "test", data_dir)
        assert test is not None
        if not test.is_file():
            continue
        if fewshot and train is not None and not train.is_file():
            raise UserError(
                f"{name}: fewshot={fewshot} needs training documents, and {train} does not exist",
                "make that file, in the format of the test documents, or set fewshot=0",
            )
        try:
            data.load(source, str(data_dir), train=fewshot > 0 and train is not None)
        except data.DataError as error:
            raise UserError(str(error), "mend the file, or leave out data_dir to use the hub's data") from error


def _data_hash(name: str, settings: dict[str, Any]) -> list[str]:
    """Content hashes of the task's local files; empty for the hub's data."""
    if settings["data_dir"] is None or not task_names.is_ours(name):
        return []
    splits = ("test", "train") if settings["fewshot"] else ("test",)
    files = [data.local_file(name.removeprefix("clp_"), split, settings["data_dir"]) for split in splits]
    return [sha256_file(path) for path in files if path is not None and path.is_file()]


def _reason(error: Exception) -> str:
    """An error in one line."""
    text = (str(error).strip().splitlines() or [""])[0][:300]
    return text if isinstance(error, (FileNotFoundError, ValueError)) and text else f"{type(error).__name__}: {text}"


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """What upstream's tasks draw while they are loaded is drawn by the seed; the caller's generators are put back.

    The harness prints to standard output and starts processes for its resamples; neither is wanted here.
    """
    states, before = (python_random.getstate(), np.random.get_state()), os.environ.get("DISABLE_MULTIPROC")
    python_random.seed(seed)
    np.random.seed(seed)
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        python_random.setstate(states[0])
        np.random.set_state(states[1])
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before
