"""The training loop: steps, validation points, checkpoints, one progress line."""

from __future__ import annotations

import logging
import time
from itertools import repeat
from pathlib import Path
from typing import Any

import torch

from clp_transfer.evaluate.perplexity import measure
from clp_transfer.packed import PackedCorpus
from clp_transfer.train import checkpoint, engine, flops, optimizer, schedule
from clp_transfer.train.bad_loss import BadLoss
from clp_transfer.train.batches import Batches
from clp_transfer.train.job import RunFolder, TrainJob
from clp_transfer.train.loss import CausalLoss
from clp_transfer.train.phases import Phases, new_rows
from clp_transfer.train.signals import Requests
from clp_transfer.train.tracking import Tracker

log = logging.getLogger(__name__)


class Loop:
    """One run's training, from its last checkpoint (or step 0) to the end of its budget."""

    def __init__(self, job: TrainJob, accelerator: Any, module: CausalLoss, batches: Batches, working: Path) -> None:
        self.job, self.accelerator, self.module, self.batches = job, accelerator, module, batches
        self.course = schedule.Course(batches.steps, batches.embedding_steps, job.optim, job.phases)
        self.folder = working / "checkpoints"
        alone = accelerator.num_processes == 1 and job.deepspeed.stage is None
        made = new_rows(job.model) if job.model and job.phases.new_rows_only else None
        self.phases = Phases(module, job.phases, self.course, made, alone=alone)  # before anything wraps the module
        self.flops_per_token = flops.per_token(module.model, job.budget.sequence_length)
        built = optimizer.build(module, job.optim, self.course.peak)
        self.wrapped, self.optimizer = accelerator.prepare(module, built)
        self.progress = checkpoint.resume(accelerator, self.folder)
        self.bad_loss = BadLoss(job.train.on_bad_loss, job.train.spike, lambda: checkpoint.latest(self.folder))
        self.bad_loss.restore(self.progress.state.get("bad_loss", {}))
        metrics = RunFolder(working).metrics
        self.tracker = Tracker(job, metrics, self.progress.metrics_bytes, accelerator.is_main_process)
        self.validation = PackedCorpus(job.validation_pack).head(job.validation.max_bytes)
        self.validation_eos = PackedCorpus(job.validation_pack).eos_id
        self.started = time.time() - self.progress.seconds
        self.validation_seconds: float = self.progress.state.get("validation_seconds", 0.0)
        self.before = self.training_seconds
        self.data_seconds = 0.0  # waited for the next tokens, in this leg
        self.resumed_at = self.progress.step

    @property
    def seconds(self) -> float:
        """Seconds spent on this run, over all its legs."""
        return time.time() - self.started

    @property
    def training_seconds(self) -> float:
        """The same without validation."""
        return max(self.seconds - self.validation_seconds, 1e-9)

    def run(self) -> dict[str, Any]:
        """Train to the end; returns the last validation record."""
        points = set(schedule.validation_steps(self.batches, self.job.validation))
        if self.progress.step:
            log.info("%s: going on from step %d", self.job.name, self.progress.step)
        record = self.validate(0) if self.progress.step == 0 else {}
        saved = logged = time.time()
        with Requests() as requests:
            for step in range(self.progress.step, self.batches.steps):
                loss = self.step(step)
                done = step + 1
                if time.time() - logged >= self.job.train.log_seconds or done == self.batches.steps:
                    self.report(done, loss)
                    logged = time.time()
                if done in points:
                    record = self.validate(done)
                asked, due = requests.any_rank(self.accelerator, self._is_time(saved))
                if done < self.batches.steps and (asked or due or self._passes(done)):
                    self.save(done)
                    saved = time.time()
                if asked and done < self.batches.steps:
                    raise requests.stopped(asked, checkpoint.latest(self.folder))
        return record

    def step(self, step: int) -> float:
        """One update; returns its mean loss (nats) over all ranks. Raises UserError where a bad loss stops the run."""
        self.rates = self.phases.begin(step, self.optimizer)
        counts = self.batches.accumulation_at(step), self.batches.micro_batch_at(step)
        engine.set_accumulation(self.accelerator, self.wrapped, *counts)
        device, mean = self.accelerator.device, float("nan")
        total = torch.zeros((), device=device)
        for (inputs, targets), documents in self._read(step):
            with self.accelerator.accumulate(self.wrapped):
                more = () if documents is None else (documents.to(device),)
                loss = self.wrapped(inputs.to(device), targets.to(device), *more)
                total += loss.detach()
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.phases.learning, self.job.optim.clip_norm)
                    whole = self.accelerator.reduce(total / self.batches.accumulation_at(step), "mean")
                    mean = float(whole)
                    scaler = self.accelerator.scaler
                    # fp16's scaler, ours or DeepSpeed's own, finds its scale by overflowing and passes over such steps.
                    known = None if norm is None or self.job.train.settled == "fp16" else float(norm)
                    if self.bad_loss.check(mean, step + 1, known) == "skip":
                        self.optimizer.zero_grad()
                        if scaler is not None:
                            scaler.update()
                        continue
                self.optimizer.step()
                self.optimizer.zero_grad()
        return mean

    def _read(self, step: int) -> list[tuple[Any, Any]]:
        """The step's micro-batches, each with its documents (None without a document mask); reading is timed."""
        started = time.perf_counter()
        blocks = self.batches.micro_batches(step)
        masked = self.job.budget.document_mask
        found = list(zip(blocks, self.batches.segments(step) if masked else repeat(None, len(blocks)), strict=True))
        self.data_seconds += time.perf_counter() - started
        return found

    def validate(self, step: int) -> dict[str, Any]:
        """Measure the held-out text and record it; every rank computes it, which ZeRO 3 needs."""
        started = time.time()
        tokens, documents = self.validation
        with engine.forward_precision(self.accelerator, self.job):
            found = measure(
                self.module.model,
                tokens,
                documents,
                eos_id=self.validation_eos,
                window=self.job.budget.sequence_length,
                batch_size=self.job.validation.batch_size,
            )
        units = ("nats_per_token", "token_perplexity", "word_perplexity", "bits_per_byte")
        values = found.as_dict()
        record = {"kind": "validation", "step": step, "tokens": self.batches.tokens_at(step)}
        record |= {unit: values[unit] for unit in units}
        self.tracker.log(record)
        if self.accelerator.is_main_process:
            log.info("%s: step %d, held-out bits per byte %.4f", self.job.name, step, record["bits_per_byte"])
        self.validation_seconds += time.time() - started
        return record

    def report(self, done: int, loss: float) -> None:
        """The progress line: tokens, loss, rate, speed, time left."""
        tokens = self.batches.tokens_at(done)
        fresh = tokens - self.batches.tokens_at(self.resumed_at)
        spent = max(self.training_seconds - self.before, 1e-9)
        speed = fresh / spent
        left = (self.batches.tokens - tokens) / max(speed, 1e-9)
        lr = schedule.rate(done - 1, self.course)
        record = {"kind": "train", "step": done, "tokens": tokens, "loss": loss, "lr": lr, "tokens_per_second": speed}
        record |= {"data_wait": self.data_seconds / spent} | self._use_of_the_machine(speed)
        if self.course.embedding_steps:
            record |= {f"lr_{group}": value for group, value in self.rates.items()}
        self.tracker.log(record)
        if self.accelerator.is_main_process:
            log.info(
                "%s: step %d/%d  %.2f M tokens  loss %.3f  lr %.1e  %s tokens/s%s  %d:%02d left",
                *(self.job.name, done, self.batches.steps, tokens / 1e6, loss, lr, f"{speed:,.0f}"),
                "".join(
                    f"  {name} {value:.3g}"
                    for name, value in record.items()
                    if name in ("mfu", "memory_gb", "data_wait")
                ),
                *divmod(round(left), 60),
            )

    def _use_of_the_machine(self, speed: float) -> dict[str, float]:
        """On a GPU: the share of its peak that is used (see flops.mfu), where the peak is known, and its memory."""
        if self.accelerator.device.type != "cuda":
            return {}
        name = torch.cuda.get_device_name(self.accelerator.device)
        share = flops.mfu(speed, self.flops_per_token, self.accelerator.num_processes, name)
        memory = torch.cuda.max_memory_allocated(self.accelerator.device) / 1e9
        return {"memory_gb": memory} | ({} if share is None else {"mfu": share})

    def _is_time(self, saved: float) -> bool:
        """Whether a checkpoint is due by the clock, where it is not by tokens; rank 0's clock decides for all."""
        by_clock = self.job.train.checkpoint_tokens is None
        return by_clock and time.time() - saved >= 60 * self.job.train.checkpoint_minutes

    def _passes(self, done: int, every: int | None = None) -> bool:
        """Whether the step that is done has passed a multiple of `every` tokens; without it, any that asks to save."""
        if every is None:
            wanted = (self.job.train.checkpoint_tokens, self.job.train.permanent_tokens)
            return any(self._passes(done, one) for one in wanted if one is not None)
        return self.batches.tokens_at(done) // every > self.batches.tokens_at(done - 1) // every

    def save(self, done: int) -> None:
        """Write a checkpoint from which the run goes on exactly."""
        train = self.job.train
        state = {"bad_loss": self.bad_loss.state(), "validation_seconds": round(self.validation_seconds, 1)}
        progress = checkpoint.Progress(
            done, round(self.seconds, 1), world_size=self.accelerator.num_processes, state=state
        )
        permanent = train.permanent_tokens is not None and self._passes(done, train.permanent_tokens)
        written = self.tracker.sync
        checkpoint.save(self.accelerator, self.folder, progress, written, keep=train.keep, permanent=permanent)
