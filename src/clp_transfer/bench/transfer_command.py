"""The whole command, imports included: against mergekit's tokensurgeon on one pair of checkpoints, and on GPT-2."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import GPT2Config, LlamaConfig, PretrainedConfig

from clp_transfer.bench import peers
from clp_transfer.bench.checkpoints import trained_tokenizer, workplace, write_model
from clp_transfer.bench.command import Finished, measure
from clp_transfer.bench.memory import MEGABYTE
from clp_transfer.bench.rows import Row, compare, interleaved

PEER, LIMIT = "mergekit-tokensurgeon", "limit"
ATOMS = 64
SPEED_BAR, MEMORY_BAR = 2.0, 2.0
GPT2_SECONDS = 6.0
# Two greedy searches in float32 part where two atoms are nearly equally good; from there on, both are right.
SAME_ROW, SAME_SHARE = 0.01, 0.99


@dataclass(frozen=True)
class Size:
    """Source and helper: vocabulary, width, layers; how often each command runs."""

    source: tuple[int, int, int]
    helper: tuple[int, int, int]
    atoms: int = ATOMS
    repeats: int = 3
    quick: bool = False

    def __str__(self) -> str:
        (rows, width, layers), (helper_rows, helper_width, _) = self.source, self.helper
        return f"{rows:,} x {width} with {layers} layers, helper {helper_rows:,} x {helper_width}"


# Minutes a run. What the libraries hold weighs less beside the larger one, of 1.2 B parameters.
OMP = Size(source=(32_000, 576, 30), helper=(24_000, 256, 8), repeats=1)
LARGE_OMP = Size(source=(32_000, 2_048, 22), helper=(24_000, 256, 8), repeats=1)
GPT2 = Size(source=(50_257, 768, 12), helper=(50_257, 768, 12))
QUICK_OMP = Size(source=(400, 32, 2), helper=(360, 16, 1), atoms=4, repeats=1, quick=True)
QUICK_GPT2 = Size(source=(400, 32, 2), helper=(360, 32, 2), repeats=1, quick=True)


def run(quick: bool) -> list[Row]:
    """Measure; raises AssertionError where the peer's embedding differs, RuntimeError where a command fails."""
    pairs = [QUICK_OMP] if quick else [OMP, LARGE_OMP]
    return [*(row for pair in pairs for row in omp_rows(pair)), gpt2_row(QUICK_GPT2 if quick else GPT2)]


def clp_command(source: Path, helper: Path, out: Path, *options: str) -> list[str | Path]:
    """Our command line; `clp.py` lies at the root of the checkout that this package was installed from."""
    script = next((p / "clp.py" for p in Path(__file__).parents if (p / "clp.py").is_file()), None)
    if script is None:
        raise RuntimeError("the bench of the command needs a checkout: clp.py is not above the package")
    return [sys.executable, script, f"source={source}", f"helper={helper}", f"out={out}", *options]


def ours(source: Path, helper: Path, out: Path, *options: str) -> Finished:
    """Run our command offline."""
    return measure(clp_command(source, helper, out, *options), os.environ | {"HF_HUB_OFFLINE": "1"})


def omp_rows(size: Size) -> list[Row]:
    """Time and memory of both commands, in turns, on a pair of Llamas in bfloat16."""
    python = peers.python("mergekit")
    peaks: dict[str, list[int]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory(dir=workplace(size.quick)) as folder:
        root = Path(folder)
        source, helper = _pair(root, size, _llama, torch.bfloat16)
        options = ("method=omp", f"method.atoms={size.atoms}")
        rounds = iter(range(2 * size.repeats))

        def kept(side: str, call: Callable[[Path], Finished]) -> float:
            """Each run has a folder of its own: neither side is to pay for taking an old result away."""
            out = root / f"{side}-{next(rounds)}"
            done = call(out)
            out.rename(_emptied(root / side))
            peaks[side].append(done.peak_bytes)
            return done.seconds

        calls = [lambda: kept("ours", lambda out: ours(source, helper, out, *options))]
        if python:
            peer = _tokensurgeon(python, source, helper, size.atoms)
            calls.append(lambda: kept("theirs", peer))
        times = interleaved(calls, size.repeats)
        if python:
            same_tables(_table(root / "ours"), _table(root / "theirs"), source=_table(source))
    memory = [statistics.median(found) / MEGABYTE for found in peaks.values() if found]
    what = f"clp.py method=omp, {size.atoms} atoms, {size}, whole command"
    shared: dict[str, Any] = {"peer_name": PEER, "note": None if python else peers.missing("mergekit")}
    return [
        compare(what, "s", times[0], times[1] if python else None, bar=SPEED_BAR, **shared),
        compare(f"peak memory, {what}", "MB", memory[0], memory[1] if python else None, bar=MEMORY_BAR, **shared),
    ]


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _tokensurgeon(python: Path, source: Path, helper: Path, atoms: int) -> Callable[[Path], Finished]:
    """mergekit's command with its own defaults, of which OMP with 64 atoms is one."""
    start: list[str | Path] = [python, "-P", "-m", "mergekit.scripts.tokensurgeon", source, helper]
    options = ["--approximation-method", "omp", "--k", str(atoms)]
    return lambda out: measure([*start, out, *options], peers.environment())


def gpt2_row(size: Size) -> Row:
    """Our command on a GPT-2, in float32 as the real one; the files were read once before."""
    with tempfile.TemporaryDirectory(dir=workplace(size.quick)) as folder:
        root = Path(folder)
        source, helper = _pair(root, size, _gpt2, torch.float32)
        outs = [root / f"out-{i}" for i in range(size.repeats + 1)]
        ours(source, helper, outs[0])
        taken = statistics.median(ours(source, helper, out).seconds for out in outs[1:])
    name = f"clp.py on a GPT-2 of {size}, cached inputs, imports included"
    return compare(name, "s", taken, GPT2_SECONDS, LIMIT, bar=1.0)


def _pair(
    root: Path, size: Size, config: Callable[[int, int, int], PretrainedConfig], dtype: torch.dtype
) -> tuple[Path, Path]:
    """A source and a helper, each with a tokenizer trained on words of its own; the function words are in both."""
    folders = []
    for seed, (name, shape) in enumerate((("source", size.source), ("helper", size.helper)), start=1):
        tokenizer = trained_tokenizer(shape[0], seed=seed, quick=size.quick)
        folders.append(write_model(root / name, config(*shape), tokenizer, seed=seed, dtype=dtype))
    return folders[0], folders[1]


def _llama(vocabulary: int, width: int, layers: int) -> PretrainedConfig:
    """About SmolLM2-135M at width 576 with 30 layers."""
    heads = max(2, width // 64)
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


def _gpt2(vocabulary: int, width: int, layers: int) -> PretrainedConfig:
    """GPT-2's shape; the smallest of them at width 768 with 12 layers."""
    return GPT2Config(
        vocab_size=vocabulary,
        n_embd=width,
        n_layer=layers,
        n_head=max(2, width // 64),
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


def _table(folder: Path) -> Tensor:
    """The input embedding of a Llama in one file, float32."""
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return file.get_tensor("model.embed_tokens.weight").float()


def same_tables(ours: Tensor, theirs: Tensor, source: Tensor) -> None:
    """Assert that two results are the same transfer: 99 rows in 100 differ by less than 1 % of their norm.

    Overlapping tokens, whose rows are the source's own, have to be exactly the same.
    """
    assert ours.shape == theirs.shape, f"ours has the shape {tuple(ours.shape)}, the peer's {tuple(theirs.shape)}"
    known = {row.tobytes() for row in source.numpy()}
    copied = torch.tensor([row.tobytes() in known for row in theirs.numpy()])
    assert torch.equal(ours[copied], theirs[copied]), "rows that the peer copied from the source differ"
    apart = (ours - theirs)[~copied].norm(dim=1) / theirs[~copied].norm(dim=1)
    share = float((apart < SAME_ROW).double().mean())
    assert share >= SAME_SHARE, f"only {share:.0%} of the new rows are within {SAME_ROW:.0%} of the peer's"
