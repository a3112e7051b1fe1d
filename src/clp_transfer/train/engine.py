"""The accelerate set-up: one process, DDP, or DeepSpeed ZeRO, on GPUs or on CPUs."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import warnings
from typing import Any

import torch

from clp_transfer.errors import UserError
from clp_transfer.train.job import TrainJob

PRECISIONS = {"fp32": "no", "bf16": "bf16", "bf16_pure": "no", "fp16": "fp16"}
HALF = {"bf16": "bfloat16", "bf16_pure": "bfloat16", "fp16": "float16"}
# What `accelerate launch` may say; precision, DeepSpeed and all else that it has options for, the config decides.
MACHINE = {"ACCELERATE_CPU_AFFINITY", "ACCELERATE_DEBUG_MODE", "ACCELERATE_TORCH_DEVICE"}


def build(job: TrainJob, accumulation: int, micro_batch: int, width: int | None = None) -> Any:
    """An `Accelerator` for this process; `width` is the model's hidden size, which ZeRO 3 wants to know.

    Raises UserError for a precision that needs a GPU or goes without DeepSpeed, for offloading without
    ZeRO, and where the ranks do not find each other.
    """
    on_cpu = not torch.cuda.is_available()
    _check(job, on_cpu)
    if on_cpu:
        # Without this DeepSpeed looks for a GPU and accelerate silently falls back to DDP.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    for name in [n for n in os.environ if n.startswith("ACCELERATE_") and n not in MACHINE]:
        del os.environ[name]
    from accelerate import Accelerator, DeepSpeedPlugin, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    if not torch.distributed.is_initialized():
        # accelerate keeps the precision of a process's first run; a second one may have another.
        AcceleratorState._reset_state(reset_partial_state=True)
    settings: dict[str, Any] = {
        "mixed_precision": PRECISIONS[job.train.settled],
        "gradient_accumulation_steps": accumulation,
    }
    if job.deepspeed.stage is None:
        # Never cpu=True with DeepSpeed: it makes accelerate leave DeepSpeed out and use DDP, silently.
        settings["cpu"] = on_cpu
        # The gradients lie in DDP's buckets instead of beside them: 4 bytes a parameter less.
        settings["kwargs_handlers"] = [DistributedDataParallelKwargs(gradient_as_bucket_view=True)]
    else:
        _be_a_group_of_one()
        _make_deepspeed_quiet(on_cpu)
        made = deepspeed_config(job, accumulation, micro_batch, width)
        settings["deepspeed_plugin"] = DeepSpeedPlugin(hf_ds_config=made)
    try:
        accelerator = Accelerator(**settings)
    except torch.distributed.DistError as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise UserError(
            f"the ranks cannot meet at {address}: {str(error).splitlines()[0]}",
            "another job may hold that port: choose one with torchrun --master_port",
        ) from error
    if job.deepspeed.stage is None:
        return accelerator
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        raise UserError(
            f"deepspeed.stage={job.deepspeed.stage} was asked for, but accelerate chose {accelerator.distributed_type}",
            "check that deepspeed is installed, and run under torchrun",
        )
    _tell_ranks()
    return accelerator


def _check(job: TrainJob, on_cpu: bool) -> None:
    """Raise UserError for what cannot be trained, or not like this."""
    precision, stage = job.train.precision, job.deepspeed.stage
    if on_cpu and precision == "fp16":
        raise UserError("train.precision=fp16 needs a GPU", "use bf16 or fp32 on a CPU")
    if precision == "bf16_pure" and stage == 0:
        raise UserError(
            "train.precision=bf16_pure does not go with deepspeed.stage=0",
            "use deepspeed=none, or a stage from 1 to 3, which keeps float32 weights for the ranks to share",
        )
    if job.train.on_bad_loss == "skip" and stage is not None:
        raise UserError(
            "train.on_bad_loss=skip cannot be had with DeepSpeed, which updates in its backward pass",
            "use train.on_bad_loss=stop, or deepspeed=none",
        )
    if job.deepspeed.offload_optimizer and not stage:
        raise UserError(
            f"deepspeed.offload_optimizer needs ZeRO, and deepspeed.stage is {stage}",
            "choose deepspeed=zero3_offload, or a stage from 1 to 3",
        )


def _make_deepspeed_quiet(on_cpu: bool) -> None:
    """No memory figures among our lines, no warnings of torch about DeepSpeed's calls, nothing compiled at the start.

    On CPUs DeepSpeed would compile collectives in shared memory. That needs a C++ compiler and a minute, and a run that
    is killed meanwhile leaves a lock on which every later one waits. gloo does the same without.
    """
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    if on_cpu:
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _tell_ranks() -> None:
    """Give accelerate its rank and world size, which it leaves at 0 of 1 for DeepSpeed on CPUs.

    Every rank would take itself for the main one, and write the same files.
    """
    from accelerate.state import AcceleratorState, PartialState

    ranks = {
        "num_processes": torch.distributed.get_world_size(),
        "process_index": torch.distributed.get_rank(),
        "local_process_index": int(os.environ.get("LOCAL_RANK", "0")),
    }
    for state in (PartialState, AcceleratorState):
        state._shared_state.update(ranks)


def _be_a_group_of_one() -> None:
    """Without a launcher, give DeepSpeed the process group of one that it insists on."""
    if "WORLD_SIZE" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in alone.items()})


def world() -> tuple[int, int]:
    """This process's rank and the number of processes, from the launcher's environment."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def set_accumulation(accelerator: Any, wrapped: Any, accumulation: int, micro_batch: int) -> None:
    """From the next step on, `accumulation` micro-batches make one: for a phase with another batch size.

    `wrapped` is what `accelerator.prepare` made of the model. Call it between steps, on every rank.
    """
    accelerator.gradient_accumulation_steps = accumulation
    accelerator.step = 0
    if not hasattr(wrapped, "set_train_batch_size"):
        return
    # DeepSpeed divides the loss by its own count, not by accelerate's.
    wrapped.set_train_micro_batch_size(micro_batch)
    wrapped.set_train_batch_size(micro_batch * accumulation * wrapped.dp_world_size)
    if hasattr(wrapped.optimizer, "gradient_accumulation_steps"):
        wrapped.optimizer.gradient_accumulation_steps = accumulation


def forward_precision(accelerator: Any, job: TrainJob) -> Any:
    """The context in which the unwrapped model computes as it does in training, for measuring it."""
    half = HALF.get(job.train.settled)
    if job.deepspeed.stage is None:
        return accelerator.autocast()
    if job.deepspeed.stage == 0 and half:  # DeepSpeed's own autocast is in its wrapper's call
        return torch.autocast(accelerator.device.type, getattr(torch, half))
    return contextlib.nullcontext()  # stages 1 to 3 have halved the weights themselves


def held(module: torch.nn.Module, optimizer: Any) -> dict[str, int]:
    """Bytes that this rank holds of `parameters` and of `optimizer` state: moments, and master weights of their own."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    weights = list(module.parameters())
    # Under ZeRO 3 a parameter shows no elements; this rank's part of it is its ds_tensor.
    parts = [part for p in weights for part in (p.data, getattr(p, "ds_tensor", None)) if part is not None]
    own = {part.data_ptr() for part in parts if part.numel()}
    state = [v for values in optimizer.state.values() for v in values.values() if torch.is_tensor(v) and v.ndim]
    masters = [p.data for p in optimizer.state if p.data_ptr() not in own]
    return {"parameters": sum(p.nbytes for p in parts), "optimizer": sum(t.nbytes for t in (*state, *masters))}


def deepspeed_config(job: TrainJob, accumulation: int, micro_batch: int, width: int | None = None) -> dict[str, Any]:
    """DeepSpeed's own JSON. The optimizer is torch's, so no CUDA extension is built.

    `width`: the model's hidden size; under ZeRO 3 parameters of up to ten times that many elements (norms, biases) stay
    whole on every rank, since gathering each would cost more time than it saves memory.
    """
    settings, bucket = job.deepspeed, job.deepspeed.bucket_size
    zero: dict[str, Any] = {
        "stage": settings.stage,
        "overlap_comm": settings.overlap_comm,
        "contiguous_gradients": True,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
    }
    if settings.stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
        zero["stage3_prefetch_bucket_size"] = bucket
        if width is not None:
            zero["stage3_param_persistence_threshold"] = 10 * width
    if settings.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        # Spreads the copies to the CPU over the ranks; without offloading it changes nothing but the order.
        zero["round_robin_gradients"] = settings.stage in (1, 2)
    half, autocast = HALF.get(job.train.settled), settings.stage == 0
    made: dict[str, Any] = {
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": job.optim.clip_norm,
        "bf16": {"enabled": half == "bfloat16" and not autocast},
        "fp16": {"enabled": half == "float16" and not autocast},
    }
    if half and autocast:
        # As DDP has it. DeepSpeed's own half precision begins Adam with a step on no gradient in this stage.
        made["torch_autocast"] = {"enabled": True, "dtype": half}
    elif half:
        # Sums over micro-batches and ranks in float32, as in one process.
        made["communication_data_type"] = "fp32"
        made["data_types"] = {"grad_accum_dtype": "fp32"}
    return made
