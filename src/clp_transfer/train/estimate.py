"""Which ZeRO stage, micro-batch and recomputation a model wants on some GPUs, and how long it takes: an estimate.

Model states come from DeepSpeed's own estimators (stages 2 and 3), activations and time from formulas; nothing here was
measured on the machine that is planned for. The way to know is a run of a few steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.train.flops import PEAKS

GIB = 2**30
GPUS_PER_NODE = 8
# Free memory is never all of it: CUDA's context, NCCL's buffers, what the allocator cannot use.
USABLE = 0.9
# Bytes that a block keeps for the backward pass, per token and unit of width. Measured is what autograd saves of our
# blocks, not compiled: GPT-2 and BLOOM 32 in bfloat16 and 36 under autocast, Llama, with its gated MLP, 46 and 56.
PLAIN, GATED = 40, 60
# The same where only the block's input is kept, in bfloat16.
BLOCK_INPUT = 2
CHUNK = 1 * GIB  # of float32 logits and their gradient, in the chunked loss
BUCKETS = 5 * 50_000_000 * 4  # bytes: about five ZeRO buckets in flight, with overlap_comm
# A micro-batch of fewer tokens leaves a GPU idle; of more, it gains nothing.
LEAST_TOKENS, MOST_TOKENS = 4096, 32_768
# Shares of the peak that training reaches. 0.4: published runs of 1 to 7B on H100 (38 to 50 %). Recomputation adds a
# third to the arithmetic; with offloading the GPU waits for the CPU most of the time, and how long is a guess.
MFU, RECOMPUTED, OFFLOADED = 0.4, 3 / 4, 0.15


@dataclass(frozen=True)
class Shape:
    """What of a model decides. `embedding_parameters`: tables and head, a tied one once; `length`: of a sequence.

    `block`: bytes that a block keeps for the backward pass, per token and unit of width.
    """

    parameters: int
    embedding_parameters: int
    layers: int
    width: int
    vocabulary: int
    length: int
    block: int = PLAIN

    @property
    def flops_per_token(self) -> int:
        """6 for each number in a matrix, the head's included, and attention's scores (as in flops.py)."""
        matrices = self.parameters - self.embedding_parameters + self.vocabulary * self.width
        return 6 * matrices + 12 * self.layers * self.width * self.length

    @property
    def largest_layer(self) -> int:
        """Parameters of the largest module, which ZeRO 3 gathers whole: the table, or a block's first MLP matrix."""
        return max(self.vocabulary, 4 * self.width) * self.width


@dataclass(frozen=True)
class Machine:
    """`devices` GPUs in nodes of up to eight, each with `memory_gb` GiB; `peak`: FLOP/s of one, bfloat16."""

    devices: int
    memory_gb: float
    peak: float
    name: str = ""


@dataclass(frozen=True)
class Estimate:
    """A way to train that should fit. Memory in GiB: of each GPU, and `cpu` of each node's own."""

    deepspeed: str
    recompute: bool
    micro_batch: int
    states: float
    activations: float
    cpu: float
    mfu: float
    tokens_per_second: float
    hours: float

    @property
    def memory(self) -> float:
        """GiB of each GPU."""
        return self.states + self.activations


# Fastest first: what sends least, then what computes twice, then what waits for the CPU.
WAYS = [
    *((name, recompute) for recompute in (False, True) for name in ("none", "zero1", "zero2", "zero3")),
    ("zero3_offload", True),
]


def estimate(
    shape: Shape, machine: Machine, tokens: int, mfu: float = MFU, batch_tokens: int | None = None
) -> Estimate:
    """The first of `WAYS` that fits with a micro-batch of at least 4,096 tokens, else the first with one sequence.

    A step of `batch_tokens` bounds the micro-batch: each GPU gets its share of the sequences. Raises UserError where
    not even one sequence fits with everything offloaded, and where the GPUs cannot share the batch.
    """
    if problem := batch_problem(shape, machine, batch_tokens):
        raise UserError(problem, "make budget.batch_tokens / budget.sequence_length a multiple of the number of GPUs")
    share = None if batch_tokens is None else batch_tokens // shape.length // machine.devices
    enough = max(1, LEAST_TOKENS // shape.length)
    for least in (enough if share is None else min(enough, share), 1):
        for name, recompute in WAYS:
            if not _sensible(shape, machine, name):
                continue
            found = _try(shape, machine, name, recompute, tokens, mfu, share)
            if found is not None and found.micro_batch >= least:
                return found
    raise UserError(
        f"{shape.parameters / 1e9:.1f}B parameters do not fit on {machine.devices} GPUs of {machine.memory_gb:g} GB",
        "use more or larger GPUs, or a smaller model",
    )


def batch_problem(shape: Shape, machine: Machine, batch_tokens: int | None) -> str:
    """Why training (batches.py) would refuse to share a step's sequences among the GPUs; empty where it would not."""
    sequences, rest = divmod(batch_tokens or 0, shape.length)
    if batch_tokens is not None and (rest or not sequences):
        return f"a batch of {batch_tokens:,} tokens is no whole number of sequences of {shape.length:,}"
    return (
        f"a batch of {sequences} sequences does not fit {machine.devices} GPUs" if sequences % machine.devices else ""
    )


def _sensible(shape: Shape, machine: Machine, name: str) -> bool:
    """No ZeRO without ranks to share with; no plain DDP where its states would take more than a quarter of a GPU."""
    if machine.devices == 1:
        return name in ("none", "zero3_offload")
    return name != "none" or 4 * states_bytes(shape, machine, name)[0] <= machine.memory_gb * GIB


def _try(
    shape: Shape, machine: Machine, name: str, recompute: bool, tokens: int, mfu: float, share: int | None
) -> Estimate | None:
    """This way, with the largest micro-batch that fits, at most the GPU's `share`; None where no sequence does."""
    states, cpu = states_bytes(shape, machine, name)
    fixed, sequence = activation_bytes(shape, recompute)
    room = USABLE * machine.memory_gb * GIB - states - fixed
    most = int(min(room // sequence, max(1, MOST_TOKENS // shape.length)))
    if most < 1:
        return None
    micro_batch = 1 << (most.bit_length() - 1)  # a power of two, which divides most batch sizes
    if share is not None and share <= most:
        micro_batch = share
    used = OFFLOADED if name == "zero3_offload" else mfu
    reached = used * RECOMPUTED if recompute else used
    speed = machine.devices * machine.peak * reached / shape.flops_per_token
    activations = (fixed + micro_batch * sequence) / GIB
    return Estimate(
        name, recompute, micro_batch, states / GIB, activations, cpu / GIB, reached, speed, tokens / speed / 3600
    )


def states_bytes(shape: Shape, machine: Machine, name: str) -> tuple[int, int]:
    """Bytes of weights, gradients and optimizer: on each GPU, and of each node's own memory.

    The latter is what offloading needs, or the start: every process reads the whole model in float32 (DeepSpeed's
    estimators allow half as much again for buffers).
    """
    count, devices = shape.parameters, machine.devices
    nodes = -(-devices // GPUS_PER_NODE)
    start = int(1.5 * 4 * count * (devices // nodes))
    place = {"num_gpus_per_node": devices // nodes, "num_nodes": nodes}
    if name == "none":
        return 18 * count, start  # float32 weights and gradients, two moments, bfloat16 copies of autocast
    if name == "zero1":
        # DeepSpeed has no estimator: bfloat16 weights and gradients, float32 sums; shared: float32 weights, moments.
        return 8 * count + 12 * count // devices + BUCKETS, start
    if name == "zero2":
        from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

        cpu, gpu = estimate_zero2_model_states_mem_needs(count, **place, cpu_offload=False)
        return gpu + BUCKETS, cpu
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs

    how = {"cpu_offload": name == "zero3_offload", "cpu_offload_params": False, "zero_init": False}
    cpu, gpu, _ = estimate_zero3_model_states_mem_needs(count, shape.largest_layer, **place, **how)
    return gpu + BUCKETS, cpu


def activation_bytes(shape: Shape, recompute: bool) -> tuple[int, int]:
    """Bytes beside the states: once (the chunked loss and its gradient of the head), and for each sequence."""
    blocks = BLOCK_INPUT * shape.layers + shape.block if recompute else shape.block * shape.layers
    last = 2 * BLOCK_INPUT  # the last hidden states and their gradient
    return CHUNK + 4 * shape.vocabulary * shape.width, shape.length * shape.width * (blocks + last)


def shape_of(model: Any, length: int) -> Shape:
    """The shape of a causal language model, which may be on the meta device."""
    from torch import nn

    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    tables = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding)}
    if head is not None:
        tables[id(head.weight)] = head.weight.numel()
    vocabulary = model.get_input_embeddings().weight.shape[0]
    total = sum(p.numel() for p in model.parameters())
    block = GATED if any("gate" in name for name, _ in model.named_parameters()) else PLAIN
    return Shape(total, sum(tables.values()), config.num_hidden_layers, config.hidden_size, vocabulary, length, block)


def gpt2_shape(layers: int, width: int, length: int, vocabulary: int = 50_304) -> Shape:
    """A GPT-2 of that size: 12 matrices of width² in a block, biases and norms, tables for words and positions."""
    tables = (vocabulary + length) * width
    return Shape(layers * (12 * width**2 + 13 * width) + 2 * width + tables, tables, layers, width, vocabulary, length)


H100, RTX_4090 = PEAKS["GH200|H200|H100"] * 1e12, PEAKS["RTX 4090(?! D| Laptop)"] * 1e12
MACHINES = [
    Machine(1, 24, RTX_4090, "1 × 24 GB (RTX 4090)"),
    Machine(1, 80, H100, "1 × 80 GB (H100)"),
    Machine(8, 80, H100, "8 × 80 GB (H100)"),
    Machine(32, 80, H100, "4 × 8 × 80 GB (H100)"),
]


SIZES = {
    "0.1B": gpt2_shape(12, 768, 1024),
    "0.4B": gpt2_shape(24, 1024, 1024),
    "1.5B": gpt2_shape(48, 1600, 1024),
    "6.4B": gpt2_shape(30, 4096, 2048),
}
COLUMNS = ["model", "GPUs", "`deepspeed=`", "recompute", "micro_batch × length", "GiB a GPU: states + activations"]
COLUMNS += ["GiB a node", "tokens/s", "time"]


def table(
    shapes: Mapping[str, Shape], tokens: int, machines: Iterable[Machine] = MACHINES, batch_tokens: int | None = None
) -> str:
    """Markdown: for each model on each machine what to set, what it needs, how long so many tokens take."""
    rows = [_row(name, shapes[name], machine, tokens, batch_tokens) for machine in machines for name in shapes]
    return "\n".join([f"| {' | '.join(COLUMNS)} |", "|---" * 4 + "|--:" * 5 + "|", *rows])


def _row(name: str, shape: Shape, machine: Machine, tokens: int, batch_tokens: int | None) -> str:
    try:
        found = estimate(shape, machine, tokens, batch_tokens=batch_tokens)
    except UserError:
        reason = batch_problem(shape, machine, batch_tokens) or "does not fit"
        return f"| {name} | {machine.name} | {reason} | | | | | | |"
    memory = f"{found.states:.1f} + {found.activations:.1f}"
    cells = [
        *(name, machine.name, found.deepspeed, "yes" if found.recompute else "no"),
        *(f"{found.micro_batch} × {shape.length}", memory, f"{found.cpu:.0f}"),
        *(f"{found.tokens_per_second:,.0f}", time_of(found.hours)),
    ]
    return f"| {' | '.join(cells)} |"


def time_of(hours: float) -> str:
    """Hours as minutes, hours or days."""
    if 60 * hours < 0.5:
        return "< 1 min"
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
