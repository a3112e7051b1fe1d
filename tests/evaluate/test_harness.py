"""The labelled task against our own sums of log-probabilities, its exact prompts, and its baselines."""

from __future__ import annotations

import json
import math
import sys
import types

import pytest
import torch

from clp_transfer.errors import UserError
from clp_transfer.evaluate import harness
from clp_transfer.evaluate.harness import domain_task, is_distinguishable


def own_accuracy(model, tokenizer, rows, labels) -> float:
    """Share of documents whose label has the largest summed log-probability after the prompt."""
    right = 0
    for row in rows:
        scores = []
        for label in labels:
            prompt = tokenizer(f"{row['text']}\n\nFachgebiet:", add_special_tokens=False)["input_ids"]
            whole = tokenizer(f"{row['text']}\n\nFachgebiet: {label}", add_special_tokens=False)["input_ids"]
            assert whole[: len(prompt)] == prompt
            with torch.no_grad():
                logs = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
            scores.append(sum(float(logs[i - 1, whole[i]]) for i in range(len(prompt), len(whole))))
        right += scores.index(max(scores)) == row["label"]
    return right / len(rows)


def read(task):
    return [json.loads(line) for line in task.read_text(encoding="utf-8").splitlines()]


def test_accuracy_equals_our_own(model, tokenizer, task, labels) -> None:
    model.config.max_position_embeddings = model.config.n_positions = 64
    rows = [{"text": row["text"][:12], "label": row["label"]} for row in read(task)]
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = domain_task(model, tokenizer, task, labels, batch_size=5)
    assert found["acc"] == pytest.approx(own_accuracy(model.eval(), tokenizer, rows, labels))
    share = found["acc"]
    assert found["stderr"] == pytest.approx(math.sqrt(share * (1 - share) / (24 - 1)))
    assert (found["documents"], found["random"], found["majority"]) == (24, 1 / 3, 0.5)
    assert found["labels"] == labels
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_requests_are_exactly_these(world, tokenizer, task, labels, monkeypatch) -> None:
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM

    seen = []

    def record(_, requests, *_more):
        seen.extend(request.args for request in requests)
        return [(-float(len(request.args[1])), False) for request in requests]

    monkeypatch.setattr(HFLM, "loglikelihood", record)
    model = AutoModelForCausalLM.from_pretrained(world.source)
    found = domain_task(model, tokenizer, task, labels, batch_size=4, limit=2)
    texts = [row["text"] for row in read(task)]
    assert seen == [(f"{text}\n\nFachgebiet:", f" {label}") for text in texts[:2] for label in labels]
    # The shortest answer wins (the first of the two), so no length normalisation: labels 2, 0 are here.
    assert found["documents"] == 2 and found["acc"] == 0.5 and found["majority"] == 0.5


@pytest.mark.parametrize(
    ("acc", "stderr", "random", "majority", "expected"),
    [
        (0.40, 0.05, 0.125, 0.30, True),
        (0.39, 0.05, 0.125, 0.30, False),
        (0.39, 0.05, 0.125, 0.25, True),
        (0.39, 0.05, 0.30, 0.25, False),
        (0.10, 0.02, 0.125, 0.30, False),
        (0.30, 0.0, 0.125, 0.30, False),
        (0.31, 0.0, 0.125, 0.30, True),
        (1.0, None, 0.125, 0.30, False),
    ],
)
def test_distinguishable(acc, stderr, random, majority, expected) -> None:
    assert is_distinguishable(acc, stderr, random, majority) is expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", "label": 3}', "line 25: label 3 is not one of the 3"),
        ('{"text": "a", "label": true}', "line 25: label True is not one"),
        ('{"text": "a"}', "line 25: .*expected, found"),
        ("{", "line 25: .*expected, found"),
    ],
)
def test_broken_data_are_named(task, labels, line, message) -> None:
    task.write_text(task.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        harness.read_labels(task, len(labels))


def test_an_evaluate_script_is_not_the_package(monkeypatch) -> None:
    script = types.ModuleType("evaluate")
    script.__file__ = "somewhere/evaluate.py"
    monkeypatch.setitem(sys.modules, "evaluate", script)
    with pytest.raises(UserError, match=r"finds somewhere/evaluate\.py"):
        harness.check_evaluate_package()
    monkeypatch.undo()
    harness.check_evaluate_package()
