"""What each speedup gives in training on one GPU: GPT-2 XL's and BLOOM-1.7B's shape in bfloat16, as shares of its peak.

Every rung of the ladder keeps what the rungs below it switched on: eager attention and whole logits, fused attention,
chunked loss, compiled blocks, a larger micro-batch, weights in bfloat16. Each runs in a process of its own; a rung that
cannot run (memory, no compiler) is a row that says why. Without a GPU nothing is measured, and the one row says so.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from clp_transfer.bench import train as cpu
from clp_transfer.bench.memory import peak_bytes, run_alone
from clp_transfer.bench.rows import Row, compare
from clp_transfer.train import flops
from clp_transfer.train.precision import machine_precision

MFU_BAR, FUSED_BAR = 0.45, 1.25


@dataclass(frozen=True)
class Shape:
    """A model built from nothing, its sequences, and the micro-batch that even the lowest rung holds in 80 GB."""

    name: str
    family: str
    fields: dict[str, Any]
    vocabulary: int
    length: int
    batch: int
    steps: int = 16
    warm_up: int = 6


@dataclass(frozen=True)
class Rung:
    """One more switch: options of `TrainConfig`, and by how much the micro-batch grows."""

    name: str
    train: dict[str, Any] = field(default_factory=dict)
    grow: int = 1


SHAPES = (
    Shape("GPT-2 XL shape", "gpt2", {"n_layer": 48, "n_embd": 1600, "n_head": 25}, 50_304, 1024, 4),
    Shape("BLOOM-1.7B shape", "bloom", {"n_layer": 24, "hidden_size": 2048, "n_head": 16}, 250_880, 2048, 2),
)
QUICK = tuple(
    Shape(name, family, fields, 300, 16, 2, steps=3, warm_up=1)
    for name, family, fields in (
        ("tiny GPT-2", "gpt2", {"n_layer": 1, "n_embd": 32, "n_head": 2}),
        ("tiny BLOOM", "bloom", {"n_layer": 1, "hidden_size": 32, "n_head": 2}),
    )
)
EAGER = Rung("eager attention, whole logits", {"attention": "eager", "fused_loss": False})
LADDER = (
    EAGER,
    Rung("+ fused attention", {"attention": "auto", "fused_loss": False}),
    Rung("+ chunked loss", {"attention": "auto", "fused_loss": True}),
    Rung("+ compiled blocks", {"attention": "auto", "fused_loss": True, "compile": True}),
    Rung("+ micro-batch 4 times as large", {"attention": "auto", "fused_loss": True, "compile": True}, 4),
    Rung(
        "+ bfloat16 weights",
        {"attention": "auto", "fused_loss": True, "compile": True, "precision": "bf16_pure"},
        4,
    ),
)


def run(quick: bool) -> list[Row]:
    """Climb the ladder with each shape; quick: tiny shapes, on any machine, without compiling."""
    if not quick and not torch.cuda.is_available():
        note = "not run: it needs a GPU, and there is none here"
        return [compare("training on a GPU", "MFU", None, None, "bar", bar=MFU_BAR, more_is_better=True, note=note)]
    ladder = [rung for rung in LADDER if not (quick and rung.train.get("compile"))]
    return [row for shape in (QUICK if quick else SHAPES) for row in _climb(shape, ladder)]


def _climb(shape: Shape, ladder: list[Rung]) -> list[Row]:
    """A row of tokens/s for every rung against the lowest, then the bars: the best MFU, and fused against eager."""
    found: list[dict[str, Any]] = []
    rows: list[Row] = []
    for rung in ladder:
        measured = _measure(shape, rung)
        found.append(measured)
        lowest = found[0].get("tokens_per_second")
        precision = rung.train.get("precision", machine_precision())
        name = f"training, {shape.name}, {shape.batch * rung.grow} x {shape.length}, {precision}: {rung.name}"
        mine = measured.get("tokens_per_second")
        rows.append(compare(name, "tokens/s", mine, lowest, EAGER.name, more_is_better=True, note=_note(measured)))
    shares = [one["mfu"] for one in found if one.get("mfu")]
    best = max(shares, default=None)
    why = None if shares else "the peak of this device is not known, so there is no MFU"
    bars: dict[str, Any] = {"bar": 1.0, "more_is_better": True, "note": why}
    rows.append(compare(f"best share of the peak (MFU), {shape.name}", "MFU", best, MFU_BAR, "bar", **bars))
    if shape.family == "bloom":
        eager, fused = (one.get("tokens_per_second") for one in found[:2])
        name = f"fused ALiBi attention alone, {shape.name}"
        rows.append(compare(name, "tokens/s", fused, eager, "eager", bar=FUSED_BAR, more_is_better=True))
    return rows


def _measure(shape: Shape, rung: Rung) -> dict[str, Any]:
    """The rung's figures, or `failed`: why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return run_alone(f"{__name__}:one", {"root": folder, "shape": asdict(shape), "rung": asdict(rung)})
        except RuntimeError as error:
            return {"failed": str(error).strip().splitlines()[-1]}


def _note(measured: dict[str, Any]) -> str | None:
    if "failed" in measured:
        return f"could not run: {measured['failed']}"
    share = f"MFU {measured['mfu']:.1%}, " if measured.get("mfu") else ""
    return f"{share}{measured['memory_gb']:.1f} GB, on {measured['device']}"


def one(root: str, shape: dict[str, Any], rung: dict[str, Any]) -> dict[str, Any]:
    """Train a few steps in this process, exactly as the train stage does; figures of the steps after the warm-up."""
    made, step = Shape(**shape), Rung(**rung)
    batch = made.batch * step.grow
    size = cpu.Size(vocabulary=made.vocabulary, batch=batch, length=made.length, steps=made.steps, warm_up=made.warm_up)
    cpu.write_packs(Path(root), size)
    job = cpu.job(Path(root), size)
    job = replace(job, train=replace(job.train, **step.train))
    model = build(made)
    per_token = flops.per_token(model, made.length)
    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else "the CPU"
    speed = cpu.timed_run(job, model, size)["tokens_per_second"]
    memory = torch.cuda.max_memory_allocated() if on_gpu else peak_bytes()
    share = flops.mfu(speed, per_token, 1, device)
    return {"tokens_per_second": speed, "mfu": share, "memory_gb": memory / 1e9, "device": device}


def build(shape: Shape, device: str | None = None) -> Any:
    """The model in float32, drawn where it will be trained: on a CPU that takes longer than the bench."""
    from transformers import AutoConfig, AutoModelForCausalLM

    ids = {"bos_token_id": 0, "eos_token_id": 0}
    length = {"n_positions": shape.length} if shape.family == "gpt2" else {}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout", "attention_dropout"), 0.0)
    config = AutoConfig.for_model(shape.family, vocab_size=shape.vocabulary, **shape.fields, **length, **ids, **dropout)
    torch.manual_seed(1)
    with torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")):
        return AutoModelForCausalLM.from_config(config)
