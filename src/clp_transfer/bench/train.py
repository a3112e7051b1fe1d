"""Our training loop against transformers' Trainer in the manner of run_clm: same model, tokens and precision."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from clp_transfer.bench.memory import MEGABYTE, run_alone
from clp_transfer.bench.rows import Row, compare, installed, interleaved, missing
from clp_transfer.packed import PackedCorpus, write_pack
from clp_transfer.train.job import (
    ArchitectureConfig,
    BudgetConfig,
    DeepSpeedConfig,
    OptimConfig,
    TrainConfig,
    TrainJob,
    ValidationConfig,
    WandbConfig,
)
from clp_transfer.train.precision import machine_precision

PEER = "transformers Trainer"
SPEED_BAR, MEMORY_BAR = 1.3, 1.25


@dataclass(frozen=True)
class Size:
    """The miniature's target model and batch. The first `warm_up` of `steps` are not timed."""

    width: int = 192
    layers: int = 4
    heads: int = 6
    vocabulary: int = 8_192
    batch: int = 16
    length: int = 128
    steps: int = 24
    warm_up: int = 4
    repeats: int = 3

    def __str__(self) -> str:
        shape = f"Llama d{self.width}x{self.layers}, vocabulary {self.vocabulary:,}"
        return f"{shape}, batch {self.batch}x{self.length}, {machine_precision()}, {self.steps - self.warm_up} steps"


QUICK = Size(width=32, layers=1, heads=2, vocabulary=300, batch=2, length=16, steps=4, warm_up=1, repeats=1)


def run(quick: bool) -> list[Row]:
    """Measure both in processes of their own, in turns; start-up, validation and saving are outside the timing."""
    size = QUICK if quick else Size()
    with_peer = installed("transformers") and installed("accelerate")
    sides = ["ours", "theirs"] if with_peer else ["ours"]
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_packs(Path(folder), size)

        def measured(side: str) -> float:
            values = run_alone(f"{__name__}:{side}", {"root": folder, "size": asdict(size)})
            peaks[side] = values["peak_bytes"] / MEGABYTE
            return values["tokens_per_second"]

        calls = [lambda side=side: measured(side) for side in sides]  # type: ignore[misc]
        speed = dict(zip(sides, interleaved(calls, size.repeats), strict=True))
    shared: dict[str, Any] = {"peer_name": PEER, "note": None if with_peer else missing("accelerate")}
    name, theirs = f"training, {size}", "theirs"
    return [
        compare(name, "tokens/s", speed["ours"], speed.get(theirs), bar=SPEED_BAR, more_is_better=True, **shared),
        compare(
            f"peak memory of the process, {size}", "MB", peaks["ours"], peaks.get(theirs), bar=MEMORY_BAR, **shared
        ),
    ]


def write_packs(root: Path, size: Size) -> None:
    """Drawn ids: speed and memory do not depend on which. One short held-out document, since it is not timed."""
    draw = np.random.default_rng(1)
    rows = draw.integers(1, size.vocabulary, size=(size.steps * size.batch + 1, size.length - 1)).tolist()
    for name, documents in (("train", rows), ("validation", rows[:1])):
        pairs = (("word " * 10, ids) for ids in documents)
        write_pack(root / name, pairs, eos_id=0, vocab_size=size.vocabulary, tokenizer="bench")


def _model(size: Size) -> LlamaForCausalLM:
    torch.manual_seed(1)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.width,
            intermediate_size=size.width * 8 // 3,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def _tokens_per_second(size: Size, stamps: list[float]) -> dict[str, float]:
    """From the ends of the steps: those after the warm-up."""
    done = len(stamps) - size.warm_up
    return {"tokens_per_second": done * size.batch * size.length / (stamps[-1] - stamps[size.warm_up - 1])}


def ours(root: str, size: dict[str, int]) -> dict[str, float]:
    """Our loop, exactly as the train stage runs it."""
    shape = Size(**size)
    return timed_run(job(Path(root), shape), _model(shape), shape)


def timed_run(made: TrainJob, model: Any, size: Size) -> dict[str, float]:
    """Tokens per second of the train stage's loop on a model, after the warm-up."""
    from clp_transfer.train import engine
    from clp_transfer.train.batches import Batches
    from clp_transfer.train.loop import Loop
    from clp_transfer.train.loss import CausalLoss
    from clp_transfer.train.run import speed_up

    stamps: list[float] = []

    class TimedLoop(Loop):
        def step(self, step: int) -> float:
            loss = super().step(step)  # a float: whatever runs on a GPU has ended
            stamps.append(time.perf_counter())
            return loss

    batches = Batches(PackedCorpus(made.train_pack), made.budget, made.seed)
    module = CausalLoss(model, made.train.fused_loss)
    speed_up(module.model, made)
    accelerator = engine.build(made, batches.accumulation, batches.micro_batch)
    TimedLoop(
        made, accelerator, module.to(accelerator.device), batches, Path(tempfile.mkdtemp(dir=made.out.parent))
    ).run()
    return _tokens_per_second(size, stamps)


def job(root: Path, size: Size) -> TrainJob:
    """The train stage's job on those packs: every step one micro-batch, nothing saved."""
    return TrainJob(
        name="bench/train",
        group="bench",
        job_type="bench",
        out=root / "run",
        model=None,
        architecture=ArchitectureConfig(),
        tokenizer=root,
        train_pack=root / "train",
        validation_pack=root / "validation",
        budget=BudgetConfig(
            tokens=size.steps * size.batch * size.length,
            batch_tokens=size.batch * size.length,
            sequence_length=size.length,
            micro_batch=size.batch,
        ),
        optim=OptimConfig(lr=1e-3),
        validation=ValidationConfig(points=1, max_bytes=None, batch_size=1),
        train=TrainConfig(precision=machine_precision(), checkpoint_minutes=60),
        deepspeed=DeepSpeedConfig(),
        wandb=WandbConfig(mode="disabled"),
        seed=1,
        language="de",
        base_model="bench",
    )


def theirs(root: str, size: dict[str, int]) -> dict[str, float]:
    """Trainer on the same pack cut into blocks with labels, as run_clm gives them; no evaluation, no saving."""
    from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator

    stamps: list[float] = []

    class Stamp(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            stamps.append(time.perf_counter())

    shape = Size(**size)
    tokens = np.asarray(PackedCorpus(Path(root) / "train").tokens, dtype=np.int64)
    blocks = tokens[: len(tokens) // shape.length * shape.length].reshape(-1, shape.length).tolist()
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(dir=root),
        per_device_train_batch_size=shape.batch,
        max_steps=shape.steps,
        learning_rate=1e-3,
        weight_decay=0.1,
        lr_scheduler_type="cosine",
        optim="adamw_torch_fused",
        bf16=machine_precision() == "bf16",
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    Trainer(
        model=_model(shape),
        args=arguments,
        train_dataset=_blocks(blocks),
        data_collator=default_data_collator,
        callbacks=[Stamp()],
    ).train()
    return _tokens_per_second(shape, stamps)


def _blocks(blocks: list[list[int]]) -> Any:
    """The blocks as run_clm's Arrow data set; as a plain list where `datasets` is not installed."""
    if installed("datasets"):
        import datasets

        return datasets.Dataset.from_dict({"input_ids": blocks, "labels": blocks})
    return [{"input_ids": ids, "labels": ids} for ids in blocks]
