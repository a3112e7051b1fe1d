"""The labelled zero-shot task, through lm-evaluation-harness, beside what guessing would reach."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from clp_transfer.errors import UserError

NAME = "clp_domains"
TASK_FILE = Path(__file__).parent / "tasks" / f"{NAME}.yaml"
Z95 = 1.96


def domain_task(
    model: torch.nn.Module,
    tokenizer: Any,
    data: Path,
    labels: list[str],
    *,
    batch_size: int,
    limit: int | None = None,
) -> dict[str, Any]:
    """Zero-shot accuracy of a causal language model on JSON lines `{"text", "label"}`, the first `limit` of them.

    Returns `acc`, `stderr` (sample standard deviation / √n), `documents`, `random` (1 / labels), `majority` (the
    share of the commonest label), `labels`, `distinguishable` (see `is_distinguishable`), `dtype` (of the weights, in
    which it is computed). A prompt longer than the model's context loses its beginning. Needs no network and writes
    nothing outside a temporary folder.

    Raises UserError where the data are broken or `evaluate` is not the package that the harness needs.
    """
    check_evaluate_package()
    counts = Counter(read_labels(data, len(labels))[:limit])
    with tempfile.TemporaryDirectory() as cache:
        result = _run(model, tokenizer, task_config(data, labels, Path(cache)), batch_size, limit)
    acc, stderr = float(result["acc,none"]), result["acc_stderr,none"]
    documents = counts.total()
    random, majority = 1 / len(labels), max(counts.values()) / documents
    error = float(stderr) if documents > 1 else None
    return {
        "acc": acc,
        "stderr": error,
        "documents": documents,
        "random": random,
        "majority": majority,
        "labels": labels,
        "distinguishable": is_distinguishable(acc, error, random, majority),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
    }


def is_distinguishable(acc: float, stderr: float | None, random: float, majority: float) -> bool:
    """Whether the model shows any skill: `acc` is over 1.96 standard errors above the better trivial baseline.

    That baseline is the larger of random guessing and always answering the commonest label. An accuracy near it
    or below it is no skill, so it is not distinguishable; nor is one without a standard error (one document).
    """
    return stderr is not None and acc - max(random, majority) > Z95 * stderr


def task_config(data: Path, labels: list[str], cache: Path) -> dict[str, Any]:
    """The task file completed with the data file, the answers and a folder for the loader's cache."""
    config = yaml.safe_load(TASK_FILE.read_text(encoding="utf-8"))
    config["dataset_kwargs"] = {"data_files": {"test": str(data.resolve())}, "cache_dir": str(cache)}
    config["doc_to_choice"] = list(labels)
    return config


def read_labels(data: Path, labels: int) -> list[int]:
    """The label of every document; raises UserError naming the line that is broken or out of range."""
    found = []
    try:
        # Not str.splitlines, which also splits at line separators inside a text.
        text = data.read_text(encoding="utf-8")
        lines = text.removesuffix("\n").split("\n") if text else []
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise UserError(f"the task's file {data} cannot be read: {error}", "run prepare.py first") from error
    for number, line in enumerate(lines, 1):
        try:
            document = json.loads(line)
            label, is_text = document["label"], isinstance(document["text"], str)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UserError(
                f'{data}, line {number}: {{"text", "label"}} expected, found {line[:80]!r}', "run prepare.py again"
            ) from error
        if not is_text or type(label) is not int or not 0 <= label < labels:
            raise UserError(
                f"{data}, line {number}: label {label!r} is not one of the {labels} configured labels",
                "configure the same labels for prepare and evaluate, and run prepare.py again",
            )
        found.append(label)
    if not found:
        raise UserError(f"the task's file {data} is empty", "run prepare.py again, or evaluate without the task")
    return found


def check_evaluate_package() -> None:
    """Make sure that `import evaluate` is Hugging Face's package, which the harness imports by that name.

    The repository has an evaluate.py at its root, where Python finds it first if that folder is on `sys.path`.
    """
    package = importlib.import_module("evaluate")
    if not hasattr(package, "load"):
        raise UserError(
            f"`import evaluate` finds {getattr(package, '__file__', package)}, not the package of that name,"
            " which lm-evaluation-harness needs",
            "start Python so that the repository's root is not on sys.path: python evaluate.py, or python -P",
        )


def _run(model: torch.nn.Module, tokenizer: Any, config: dict[str, Any], batch_size: int, limit: int | None) -> Any:
    """The harness's results for the task; its packages are slow to import, so only here.

    `evaluate` and not `simple_evaluate`, which does the same but first runs pip and git for a description of the
    machine: seconds for each model, and the manifest has that description.
    """
    with quiet():
        from lm_eval import evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        results: Any = evaluate(
            lm=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
            task_dict=TaskManager(include_defaults=False).load([config]),
            limit=limit,
            # A mean's standard error comes from a formula; any positive number of iterations asks for it.
            bootstrap_iters=1,
            log_samples=False,
        )
    return results["results"][NAME]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the harness's progress bars and notices out of our own progress lines; errors still come through."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
