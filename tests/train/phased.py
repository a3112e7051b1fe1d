"""A small run with phases in plain torch, DDP or DeepSpeed; as a program, one rank of it (see test_phases.py)."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from clp_transfer.packed import PackedCorpus
from clp_transfer.train import optimizer as groups
from clp_transfer.train.batches import Batches
from clp_transfer.train.job import BudgetConfig, OptimConfig, PhasesConfig
from clp_transfer.train.phases import Phases
from clp_transfer.train.schedule import Course

Weights = dict[str, torch.Tensor]


class Loss(nn.Module):
    """Stands for the loop's module: its forward pass is the loss."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return cross_entropy(self.model(input_ids=inputs, use_cache=False).logits.flatten(0, 1), targets.flatten())


@dataclass
class Run:
    """One run: what it needs, and after each step what it was."""

    folder: str
    pack: str
    phases: dict[str, Any]
    optim: dict[str, Any] = field(default_factory=dict)
    steps: int = 6
    new: list[bool] | None = None
    alone: bool = False
    stage: int | None = None
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        torch.set_num_threads(1)
        phases = PhasesConfig(**self.phases)
        budget = BudgetConfig(steps=self.steps, batch_tokens=128, sequence_length=32, micro_batch=1)
        self.batches = Batches(PackedCorpus(Path(self.pack)), budget, 1, self.rank, self.ranks, phases)
        optim = OptimConfig(**({"lr": 3e-3, "weight_decay": 0.5, "clip_norm": 0.1} | self.optim))
        self.course = Course(self.batches.steps, self.batches.embedding_steps, optim, phases)
        self.model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()  # no dropout
        self.module = Loss(self.model)
        new = None if self.new is None else torch.tensor(self.new)
        self.gates = Phases(self.module, phases, self.course, new, alone=self.alone)
        self.optimizer: Any = groups.build(self.module, optim, self.course.peak)
        self.wrapped = self._wrap()

    def _wrap(self) -> Any:
        if self.stage is not None:
            import deepspeed

            config = {
                "zero_optimization": {"stage": self.stage, "stage3_param_persistence_threshold": 0},
                "zero_allow_untested_optimizer": True,
                "zero_force_ds_cpu_optimizer": False,
                "train_micro_batch_size_per_gpu": 1,
                "gradient_accumulation_steps": self.batches.accumulation,
                "gradient_clipping": self.course.optim.clip_norm,
            }
            engine, self.optimizer, *_ = deepspeed.initialize(
                model=self.module, optimizer=self.optimizer, config=config
            )
            return engine
        return nn.parallel.DistributedDataParallel(self.module) if self.ranks > 1 else self.module

    def step(self, step: int) -> None:
        """One update."""
        self.gates.begin(step, self.optimizer)
        if self.stage is not None:
            self.wrapped.set_train_batch_size(self.batches.sequences_at(step))  # DeepSpeed derives its accumulation
        for inputs, targets in self.batches.micro_batches(step):
            if self.stage is not None:
                self.wrapped.backward(self.wrapped(inputs, targets))
                self.wrapped.step()
            else:
                (self.wrapped(inputs, targets) / self.batches.accumulation_at(step)).backward()
        if self.stage is None:
            torch.nn.utils.clip_grad_norm_(self.gates.learning, self.course.optim.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def weights(self) -> Weights:
        """A copy of the model's parameters."""
        if self.stage == 3:
            import deepspeed

            with deepspeed.zero.GatheredParameters(list(self.model.parameters())):
                return {name: value.detach().clone() for name, value in self.model.named_parameters()}
        return {name: value.detach().clone() for name, value in self.model.named_parameters()}

    def course_of_weights(self) -> list[Weights]:
        """The weights before training and after every step."""
        course = [self.weights()]
        for step in range(self.batches.steps):
            self.step(step)
            course.append(self.weights())
        return course


if __name__ == "__main__":
    where = {"rank": int(os.environ["RANK"]), "ranks": int(os.environ["WORLD_SIZE"])}
    run_options, out = json.loads(sys.argv[1]), Path(sys.argv[2])
    if run_options.get("stage") is None:
        torch.distributed.init_process_group("gloo")
    else:
        import deepspeed

        deepspeed.init_distributed("gloo")
    torch.save(Run(**run_options, **where).course_of_weights(), out / f"{where['rank']}.pt")
    torch.distributed.destroy_process_group()
