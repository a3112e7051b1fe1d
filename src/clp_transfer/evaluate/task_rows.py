"""One row of the table of tasks: the harness's numbers of a task, beside what guessing would reach."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from clp_transfer.evaluate.harness import is_distinguishable

Metrics = dict[str, Any]  # the harness's, by "metric,filter"
Samples = list[dict[str, Any]]  # the harness's, one for each document (and filter)


class NotFiniteError(ValueError):
    """The model gave a document a log-likelihood that is NaN or infinite."""


def row(task: Any, metrics: Metrics, samples: Samples) -> dict[str, Any]:
    """The row of a finished task; every value is a JSON value, None for what is not a number.

    Raises NotFiniteError.
    """
    samples = sorted(samples, key=lambda sample: int(sample["doc_id"]))
    check_finite(samples)
    if "cue" in (task.config.metadata or {}):
        found = _choice(task, metrics, samples)
    elif task.config.task == "clp_oscar_ppl_de":
        found = {name: metrics[f"{name},none"] for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")}
    else:
        found = _upstream(task, metrics, samples)
    documents = len({sample["doc_id"] for sample in samples})
    return {name: _json(value) for name, value in found.items()} | {"documents": documents}


def failed(reason: str) -> dict[str, Any]:
    """The row of a task that could not be measured."""
    return {"error": reason}


def check_finite(samples: Samples) -> None:
    """Raise NotFiniteError where a log-likelihood is not a finite number, naming the first such document."""
    for sample in samples:
        for response in sample["filtered_resps"]:
            score = response[0] if isinstance(response, (tuple, list)) else response
            if isinstance(score, float) and not math.isfinite(score):
                raise NotFiniteError(
                    f"the log-likelihood of document {sample['doc_id']} (counted from 0) is {score}:"
                    " the weights hold NaN or infinite values, or overflow in this precision"
                )


def _choice(task: Any, metrics: Metrics, samples: Samples) -> dict[str, Any]:
    """One of the paper's classification tasks."""
    about = task.config.metadata
    labels, count = about["labels"], len(samples)
    right = Counter(sample["doc"]["label"] for sample in samples)
    random, majority = 1 / len(labels), max(right.values()) / count

    def accuracy(metric: str) -> tuple[float, float | None, bool]:
        share, error = float(metrics[f"{metric},none"]), _json(metrics[f"{metric}_stderr,none"])
        return share, error, is_distinguishable(share, error, random, majority)

    found: dict[str, Any] = {}
    found["acc"], found["stderr"], distinguishable = accuracy("acc")
    found |= {"documents": count, "random": random, "majority": majority, "labels": labels}
    found["distinguishable"] = distinguishable
    found |= {name: metrics.get(f"{name},none") for name in ("precision", "recall", "f1")}
    found["average"] = about["average"]
    for name in ("pmi", "length_normalised"):
        found[f"acc_{name}"], found[f"stderr_{name}"], found[f"distinguishable_{name}"] = accuracy(f"acc_{name}")
    return found


def _upstream(task: Any, metrics: Metrics, samples: Samples) -> dict[str, Any]:
    """An upstream task: the harness's own metrics, and for an accuracy of choices what guessing would reach."""
    found = {name: value for name, value in metrics.items() if name not in ("alias", "sample_len")}
    plain = next((name for name in metrics if name.startswith("acc,")), None)
    if plain is None:
        return found
    acc, stderr = float(metrics[plain]), _json(metrics.get(plain.replace("acc,", "acc_stderr,")))
    found |= {"acc": acc, "stderr": stderr}
    if task.OUTPUT_TYPE == "multiple_choice":
        random, majority = _guessing(samples)
        found |= {"random": random, "majority": majority}
        found["distinguishable"] = is_distinguishable(acc, stderr, random, majority or 0)
    return found


def _guessing(samples: Samples) -> tuple[float, float | None]:
    """Random guessing, the mean of 1 / choices; and the share of the commonest answer where choices are labels.

    Where each document has choices of its own, the number of the right one says nothing: no majority.
    """
    choices = [tuple(request[1] for request in sample["arguments"]) for sample in samples]
    random = sum(1 / len(options) for options in choices) / len(choices)
    targets = [sample["target"] for sample in samples]
    if len(set(choices)) > 1 or len(choices) == 1 or not all(isinstance(target, (int, str)) for target in targets):
        return random, None
    return random, max(Counter(targets).values()) / len(targets)


def _json(value: Any) -> Any:
    """A JSON value: numbers of NumPy as Python's, None for NaN, infinities and the harness's "N/A"."""
    if isinstance(value, str):
        return None if value == "N/A" else value
    if value is None or isinstance(value, (bool, int, list, dict)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
