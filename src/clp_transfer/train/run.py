"""The training stage: from a job to a trained, saved, documented model."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict
from typing import Any

import torch
from transformers import AutoTokenizer

from clp_transfer.card import write_card
from clp_transfer.errors import UserError
from clp_transfer.evaluate.load import load_model, load_tokenizer, use_threads
from clp_transfer.files import write_json
from clp_transfer.manifest import Plan, writing
from clp_transfer.packed import PackedCorpus
from clp_transfer.train import architecture, attention, documents, engine, flops, precision, speedups
from clp_transfer.train.batches import Batches
from clp_transfer.train.curve import curve_table, draw_curve, validation_records
from clp_transfer.train.job import RunFolder, TrainJob
from clp_transfer.train.loop import Loop
from clp_transfer.train.loss import CausalLoss
from clp_transfer.train.together import agree, gather

log = logging.getLogger(__name__)


def train(job: TrainJob) -> dict[str, Any]:
    """Train one model as the job says; returns its summary. Goes on from the last checkpoint where there is one."""
    use_threads(job.train.threads)
    rank, world_size = engine.world()
    plan = job.plan()  # names no precision that the machine chooses: a finished run counts on every machine
    job = precision.settled(job, plan)
    if rank > 0:
        # Rank 0 alone owns the folder: it locks it, completes it and renames it.
        return _train(job, plan, rank, world_size)
    with writing(plan, temporary="checkpoints"):
        return _train(job, plan, rank, world_size)


def _train(job: TrainJob, plan: Plan, rank: int, world_size: int) -> dict[str, Any]:
    batches = Batches(PackedCorpus(job.train_pack), job.budget, job.seed, rank, world_size, job.phases)
    # Before DeepSpeed is set up: under ZeRO 3 transformers would otherwise load empty, partitioned weights.
    model = _load(job, batches.corpus).train()
    torch.manual_seed(job.seed + rank)  # for dropout, where the family has it; every rank its own
    (total, body), per_token = flops.parameters(model), flops.per_token(model, job.budget.sequence_length)
    module = CausalLoss(model, job.train.fused_loss)  # looks at the model's logits as they are in float32
    applied = speed_up(model, job)
    width = model.get_input_embeddings().weight.shape[1]
    accelerator = engine.build(job, batches.accumulation, batches.micro_batch, width=width)
    agree({**plan.settings, **plan.inputs, "train.precision": job.train.settled})
    if rank == 0:
        write_json(plan.working / "config.json", json.loads(json.dumps(asdict(job), default=str)))
    if job.deepspeed.stage is None:
        module.to(accelerator.device)  # DeepSpeed does it itself, after it has halved the weights
    loop = Loop(job, accelerator, module, batches, plan.working)
    started = time.time()
    final = loop.run()
    tokens = batches.tokens
    summary = {
        "name": job.name,
        "parameters": total,
        "parameters_without_embeddings": body,
        "tokens": tokens,
        "steps": batches.steps,
        "flops_per_token": per_token,
        "flops": per_token * tokens,
        "seconds": round(loop.seconds, 1),
        "tokens_per_second": round(tokens / loop.training_seconds),
        "lr": loop.course.peak,
        "embedding_steps": batches.embedding_steps,
        "precision": job.train.settled,
        "world_size": world_size,
        "zero_stage": job.deepspeed.stage,
        "fused_loss": loop.module.fused,
        "speedups": applied,
        "bytes_per_rank": gather(engine.held(loop.module, loop.optimizer)),
        "final": final,
    }
    _save(job, accelerator, loop, model, summary, RunFolder(plan.working))
    log.info("%s: done in %.0f s, bits per byte %.4f", job.name, time.time() - started, final["bits_per_byte"])
    return summary


def speed_up(model: Any, job: TrainJob) -> list[str]:
    """Give the model its attention and what else the config asks for; returns what it has now.

    Raises UserError for what the family or the machine does not have.
    """
    masked = job.budget.document_mask
    used = attention.prepare(model, job.train.attention, precision=job.train.settled, document_mask=masked)
    if masked:
        documents.check(model)
    return [used, *speedups.apply(model, job.train)]


def _load(job: TrainJob, corpus: PackedCorpus) -> Any:
    """The model to train, in float32 master weights; checks that it has a row for every token of the pack."""
    if not corpus.made_by(job.tokenizer):
        raise UserError(
            f"{corpus.prefix} was not made with the tokenizer {job.tokenizer}",
            "choose pack= and tokenizer= that belong together (data.packs says which)",
        )
    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer)
    if job.model is None:
        model = architecture.build(job.architecture, tokenizer, job.seed)
    else:
        model = load_model(job.model, device="cpu")  # which device is this rank's is not settled yet
        if load_tokenizer(job.model, model).get_vocab() != tokenizer.get_vocab():
            raise UserError(
                f"the model {job.model} has another vocabulary than the tokenizer {job.tokenizer}",
                "train it on a pack made with its own tokenizer",
            )
    rows, vocabulary = model.get_input_embeddings().weight.shape[0], corpus.info["vocab_size"]
    if rows < vocabulary:
        raise UserError(
            f"{job.model or 'the new model'} has {rows} embedding rows, {corpus.prefix} uses {vocabulary} token ids",
            "train on a pack made with the model's own tokenizer",
        )
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and job.budget.sequence_length > limit:
        raise UserError(
            f"budget.sequence_length={job.budget.sequence_length} is beyond the model's {limit} positions",
            f"set budget.sequence_length to at most {limit}",
        )
    return model


def _save(job: TrainJob, accelerator: Any, loop: Loop, model: Any, summary: dict[str, Any], run: RunFolder) -> None:
    """Write plain `save_pretrained` weights from any ZeRO stage, tokenizer, card and summary."""
    state = accelerator.get_state_dict(loop.wrapped)
    if accelerator.is_main_process:
        weights = {k.removeprefix("model."): v.float() for k, v in state.items()}
        loop.tracker.sync()
        model.save_pretrained(run.model, state_dict=weights)
        AutoTokenizer.from_pretrained(job.tokenizer).save_pretrained(run.model)
        points = validation_records(run.metrics)
        draw_curve(points, run.model / "curve.png")
        write_card(
            run.model,
            title=job.name,
            language=job.language,
            base_model=job.base_model,
            body=f"Trained on {summary['tokens']:,} tokens; the loss on held-out text meanwhile:\n\n"
            f"![bits per byte over tokens](curve.png)\n\n{curve_table(points)}",
        )
        write_json(run.summary, summary)
        loop.tracker.finish({k: v for k, v in summary.items() if k != "final"})
    accelerator.wait_for_everyone()
    if accelerator.num_processes > 1:
        accelerator.end_training()
