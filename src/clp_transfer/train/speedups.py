"""What makes a model's steps faster or smaller and leaves its losses as they are, within rounding."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from torch import nn
from transformers.activations import FastGELUActivation, NewGELUActivation
from transformers.models.bloom.modeling_bloom import BloomGelu

from clp_transfer.errors import UserError
from clp_transfer.train.job import TrainConfig

# Of the weights. bf16 and fp16 keep them in float32 and compute in autocast; the optimizer's state has their dtype.
WEIGHTS = {"fp32": torch.float32, "bf16": torch.float32, "bf16_pure": torch.bfloat16, "fp16": torch.float32}


def apply(model: Any, train: TrainConfig) -> list[str]:
    """Change a loaded model in place as the config says; returns what was done, for the summary.

    `recompute`: transformers' gradient checkpointing. `compile`: each block by torch.compile. `precision=bf16_pure`:
    weights, gradients and AdamW's two moments in bfloat16, 8 bytes a parameter instead of 16. That loses
    something: an update smaller than about 1/256 of a weight is rounded away, so small rates need the other precisions
    (DeepSpeed keeps float32 master weights and moments, and loses nothing). Activations written out in Python become
    torch's fused ones always. Call it after the attention is chosen and before the model is wrapped. Raises UserError
    for what the model or the machine cannot do.
    """
    dtype = WEIGHTS[train.settled]
    done = []
    if fuse_activations(model):
        done.append("fused_activations")
    if train.recompute:
        recompute(model)
        done.append("recompute")
    if dtype != torch.float32:
        to_dtype(model, dtype)
        done.append(train.settled)
    if train.compile:
        compile_blocks(model)
        done.append("compile")
    return done


def to_dtype(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert the weights. Buffers stay: rotary frequencies in bfloat16 would turn positions into others."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def fuse_activations(model: nn.Module) -> int:
    """Put torch's one tanh GELU in the place of those that GPT-2, BLOOM and others write out; returns how many.

    The same function within rounding, in one pass; it keeps one tensor for the backward pass, GPT-2's several.
    """
    slow = (NewGELUActivation, FastGELUActivation, BloomGelu)
    found = [
        (parent, name) for parent in model.modules() for name, one in parent.named_children() if isinstance(one, slow)
    ]
    for parent, name in found:
        setattr(parent, name, nn.GELU(approximate="tanh"))
    return len(found)


def recompute(model: Any) -> None:
    """Keep each block's input alone and compute the rest again in the backward pass."""
    if not model.supports_gradient_checkpointing:
        raise UserError(f"{type(model).__name__} cannot compute its activations again", "set train.recompute=false")
    # The other kind drops the gradients of a frozen body.
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def compile_blocks(model: Any) -> int:
    """torch.compile each block where it stands; returns how many.

    Blocks of a kind share what is compiled. The first steps take minutes; the weights keep their names.
    """
    if not torch.cuda.is_available() and not _compiler():
        raise UserError("train.compile=true needs a C++ compiler on a CPU", "install g++, or set train.compile=false")
    found = blocks(model)
    for one in found:
        one.compile()
    return len(found)


def blocks(model: Any) -> list[nn.Module]:
    """The decoder blocks: the model's longest list of modules; raises UserError where there is none."""
    lists = [one for one in model.base_model.modules() if isinstance(one, nn.ModuleList)]
    longest = max(lists, key=len, default=None)
    if longest is None:
        raise UserError(f"{type(model).__name__} has no list of blocks", "set train.compile=false")
    return list(longest)


def _compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++"))
