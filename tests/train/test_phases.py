"""Phases: what stands still stays bit for bit, ranks stay one model, and the second phase is a fresh one."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from clp_transfer.errors import UserError
from clp_transfer.packed import write_pack
from clp_transfer.train.job import OptimConfig, PhasesConfig
from clp_transfer.train.optimizer import build, embeddings
from clp_transfer.train.phases import Phases, new_rows
from clp_transfer.train.schedule import Course

PHASED = Path(__file__).with_name("phased.py")
Run = runpy.run_path(str(PHASED))["Run"]
HALF = {"share": 0.5, "lr": 1e-2, "warmup_share": 0.0}
INPUT, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def run(world: Any, tmp_path: Path) -> Any:
    """`run(field=value, …)`: 6 steps of the untied tiny Llama, 3 of them embedding tuning, on drawn ids."""
    pack = tmp_path / "pack/train"
    ids = np.random.default_rng(1).integers(1, 300, (200, 20)).tolist()
    write_pack(pack, (("word", row) for row in ids), eos_id=0, vocab_size=300, tokenizer="drawn")

    def make(**changes: Any) -> Any:
        return Run(**({"folder": str(world.untied), "pack": str(pack), "phases": HALF} | changes))

    return make


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_the_body_stands_still_until_the_boundary_and_no_longer(run) -> None:
    course = run().course_of_weights()
    assert moved(course[0], course[1]) == moved(course[0], course[3]) == {INPUT, HEAD}
    assert moved(course[3], course[4]) == set(course[0]), "update E is the first of the second phase"


def test_without_freezing_everything_learns_at_the_same_rates(run) -> None:
    course = run(phases=HALF | {"freeze": False}).course_of_weights()
    assert moved(course[0], course[1]) == set(course[0])


def test_a_share_of_one_freezes_throughout(run) -> None:
    course = run(phases=HALF | {"share": 1.0}).course_of_weights()
    assert moved(course[0], course[-1]) == {INPUT, HEAD}


def test_tied_tables_learn_as_one(run, world) -> None:
    course = run(folder=str(world.source)).course_of_weights()
    assert moved(course[0], course[3]) == {INPUT}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_only_the_tables_learn_as_in_a_model_with_frozen_parameters(run, world, family) -> None:
    """Against plain torch: an optimizer of the tables alone, then a new one for the body."""
    one = run(folder=str(world.untied if family == "llama" else world.gpt2))
    theirs = run(folder=one.folder)
    tables = embeddings(theirs.model)
    body = [p for p in theirs.model.parameters() if not any(p is table for table in tables)]
    settings = {"betas": (0.9, 0.95), "eps": 1e-8}
    first = torch.optim.AdamW(tables, weight_decay=0.5, **settings)
    second = torch.optim.AdamW(
        [{"params": [p for p in body if p.ndim > 1], "weight_decay": 0.5}, {"params": [p for p in body if p.ndim < 2]}],
        weight_decay=0.0,
        **settings,
    )
    for step in range(6):
        rates = one.gates.begin(step, one.optimizer)
        one.step(step)
        learning = tables if step < 3 else [*tables, *body]
        for inputs, targets in theirs.batches.micro_batches(step):
            (theirs.module(inputs, targets) / 4).backward()
        torch.nn.utils.clip_grad_norm_(learning, 0.1)
        for optimizer in (first,) if step < 3 else (first, second):
            for group in optimizer.param_groups:
                group["lr"] = rates["embeddings"]
            optimizer.step()
        theirs.model.zero_grad()
        for name, value in theirs.weights().items():
            # Adam divides by the gradients' size: rounding of small ones shows, at a thousandth of an update.
            torch.testing.assert_close(one.weights()[name], value, rtol=1e-5, atol=1e-5)


def test_without_the_gradients_of_a_frozen_body_the_run_is_bit_identical(run) -> None:
    masked, fast = run().course_of_weights(), run(alone=True).course_of_weights()
    for one, other in zip(masked, fast, strict=True):
        assert not moved(one, other)


@pytest.mark.parametrize("freeze", [True, False])
def test_old_rows_stay_bit_for_bit_under_weight_decay(run, freeze) -> None:
    rows = run().model.config.vocab_size
    new = [row % 3 == 0 for row in range(rows - 5)]  # the last five pad the vocabulary
    course = run(new=new, phases=HALF | {"freeze": freeze, "new_rows_only": True}).course_of_weights()
    old = ~torch.tensor([*new, *[True] * 5])
    for name in (INPUT, HEAD):
        assert torch.equal(course[0][name][old], course[3][name][old])
        assert not torch.equal(course[0][name][~old], course[3][name][~old])
        assert not torch.equal(course[3][name][old], course[4][name][old])
    assert not torch.equal(course[3][HEAD][-5:], course[0][HEAD][-5:])


def test_the_moments_of_what_stands_still_are_zero_and_its_count_starts_again(run) -> None:
    one = run(new=[False] * 100 + [True] * 200, phases=HALF | {"new_rows_only": True})
    for step in range(3):
        one.step(step)
    states = one.optimizer.state
    for parameter in one.gates.body:
        assert not states[parameter]["exp_avg"].any() and not states[parameter]["exp_avg_sq"].any()
    for table in one.gates.tables:
        assert not states[table]["exp_avg"][:100].any() and states[table]["exp_avg"][100:].any()
    one.step(3)
    assert {int(states[p]["step"]) for p in one.gates.body} == {1}
    assert {int(states[p]["step"]) for p in one.gates.tables} == {4}


def test_clipping_sees_what_learns_only(run) -> None:
    one = run()
    one.gates.begin(0, one.optimizer)
    for inputs, targets in one.batches.micro_batches(0):
        one.module(inputs, targets).backward()
    everything = torch.nn.utils.get_total_norm([p.grad for p in one.model.parameters()])
    tables = torch.nn.utils.get_total_norm([p.grad for p in one.gates.learning])
    assert {id(p) for p in one.gates.learning} == {id(p) for p in one.gates.tables}
    assert float(everything) == pytest.approx(float(tables), rel=1e-6)


def test_an_infinite_gradient_of_the_body_is_no_gradient(run) -> None:
    one = run(new=[True, *[False] * 299], phases=HALF | {"new_rows_only": True})
    one.gates.begin(0, one.optimizer)
    (sum(p.sum() for p in one.model.parameters()) * float("inf")).backward()
    assert not any(p.grad.any() for p in one.gates.body)
    assert all(not table.grad[1:300].any() and table.grad[0].isinf().all() for table in one.gates.tables)


@pytest.mark.parametrize("change", [{}, {"phases": HALF | {"new_rows_only": True}, "new": [True, *[False] * 299]}])
def test_a_run_resumed_in_any_step_is_bit_identical(run, change) -> None:
    whole = run(**change).course_of_weights()
    for at in (2, 3, 4):
        first, second = run(**change), run(**change)
        for step in range(at):
            first.step(step)
        second.model.load_state_dict(first.model.state_dict())
        second.optimizer.load_state_dict(first.optimizer.state_dict())
        for step in range(at, 6):
            second.step(step)
        assert not moved(second.weights(), whole[-1]), at


def test_rates_of_groups(run) -> None:
    course = run(phases={}, optim={"rates": {"body": 0.0, "embeddings": 2.0}}).course_of_weights()
    assert moved(course[0], course[-1]) == {INPUT, HEAD}
    double = run(phases={}, optim={"rates": {"body": 2.0, "embeddings": 2.0}}).course_of_weights()
    assert not moved(double[-1], run(phases={}, optim={"lr": 6e-3}).course_of_weights()[-1])


def torchrun(folder: Path, one: Any) -> list[list[dict[str, torch.Tensor]]]:
    """The course of weights of the same run on two ranks, for each rank."""
    fields = ("folder", "pack", "phases", "optim", "steps", "new", "stage")
    options = json.dumps({name: getattr(one, name) for name in fields})
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, str(PHASED), options, str(folder)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [None, 2, 3])
def test_two_ranks_stay_one_model_after_the_boundary(run, tmp_path, stage) -> None:
    """DDP, and ZeRO, which cuts parameters up; with another batch size and masked rows in the first phase."""
    rows = run().model.config.vocab_size
    one = run(phases=HALF | {"batch_tokens": 64, "new_rows_only": True}, new=[row > 100 for row in range(rows)])
    one.stage = stage
    parts = torchrun(tmp_path, one)
    one.stage = None
    alone = one.course_of_weights()
    for single, first, second in zip(alone, *parts, strict=True):
        assert not moved(first, second)
        for name, value in single.items():
            torch.testing.assert_close(first[name], value, rtol=1e-4, atol=2e-5)
    boundary = one.batches.embedding_steps
    assert moved(parts[0][0], parts[0][boundary]) == {INPUT, HEAD}
    assert all(torch.equal(parts[0][0][name][:101], parts[0][boundary][name][:101]) for name in (INPUT, HEAD))
    assert moved(parts[0][boundary], parts[0][boundary + 1]) == set(alone[0])


def test_new_rows_are_those_that_the_transfer_made(tmp_path) -> None:
    assert new_rows(tmp_path) is None
    table = pa.table({"id": range(5), "made": ["copied", "special", "ridge", "unused", "copied"]})
    parquet.write_table(table, tmp_path / "provenance.parquet")
    assert new_rows(tmp_path).tolist() == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("new", "message"),
    [(None, "provenance"), (torch.zeros(300, dtype=torch.bool), "no row is new"), (torch.ones(999).bool(), "999 rows")],
)
def test_rows_that_do_not_fit_are_named(run, new, message) -> None:
    phases = PhasesConfig(**HALF, new_rows_only=True)
    with pytest.raises(UserError, match=message):
        Phases(run().module, phases, Course(6, 3, OptimConfig(lr=1.0), phases), new)


@pytest.mark.parametrize("decay_embeddings", [True, False])
@pytest.mark.parametrize("family", ["untied", "source", "gpt2"])
def test_what_decays(run, world, family, decay_embeddings) -> None:
    model = run(folder=str(getattr(world, family))).module
    optimizer = build(model, OptimConfig(weight_decay=0.3, decay_embeddings=decay_embeddings), 1.0)
    found = {p: group for group in optimizer.param_groups for p in group["params"]}
    assert len(found) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        table = any(part in name for part in ("embed_tokens", "lm_head", "wte"))
        norm_or_bias = "norm" in name or "ln_" in name or name.endswith("bias")
        wanted = 0.0 if norm_or_bias or (table and not decay_embeddings) else 0.3
        group = found[parameter]
        assert (group["weight_decay"], group["name"]) == (wanted, "embeddings" if table else "body"), name
