"""Perplexity against lm-evaluation-harness's rolling log-likelihood, given its best batch size."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from clp_transfer.bench.memory import MEGABYTE, peak_bytes, reset_peak, run_alone
from clp_transfer.bench.rows import Row, compare, installed, interleaved, missing, seconds
from clp_transfer.evaluate.perplexity import measure

PEER = "lm_eval rolling"
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Size:
    """A tiny model with a large vocabulary and a text of whole windows; bars of speed and memory, if any."""

    vocabulary: int
    tokens: int
    speed_bar: float
    memory_bar: float | None
    window: int = 128
    batches: tuple[int, ...] = (1, 8, 32)
    width: int = 128
    repeats: int = 3

    def __str__(self) -> str:
        shape = f"Llama d{self.width}x2 with a vocabulary of {self.vocabulary:,}"
        return f"{shape}, {self.tokens:,} tokens in windows of {self.window}"


SIZES = (Size(50_257, 4_096, 1.5, None), Size(250_880, 4_096, 3.0, 2.0, repeats=2))
QUICK = tuple(Size(v, 256, s, m, window=16, width=16, repeats=1) for v, s, m in ((500, 1.5, None), (2_000, 3.0, 2.0)))


def run(quick: bool) -> list[Row]:
    """Measure both in one process a size, in turns; raises RuntimeError where their log-likelihoods differ."""
    rows: list[Row] = []
    with_peer = installed("lm_eval")
    for size in QUICK if quick else SIZES:
        found = run_alone(f"{__name__}:both", {"size": asdict(size), "with_peer": with_peer})
        rows += _rows(size, found, with_peer)
    return rows


def _rows(size: Size, found: dict[str, Any], with_peer: bool) -> list[Row]:
    best = found.get("best_batch")
    shared: dict[str, Any] = {"peer_name": f"{PEER}, batch {best}" if with_peer else PEER}
    notes = [found["left_out"]] if found.get("left_out") else []
    note = missing("lm_eval") if not with_peer else "; ".join(notes) or None
    rows = [
        compare(
            f"log-likelihood, {size}",
            "tokens/s",
            size.tokens / found["ours"]["seconds"],
            size.tokens / found["theirs"]["seconds"] if with_peer else None,
            bar=size.speed_bar,
            more_is_better=True,
            note=note,
            **shared,
        )
    ]
    peaks = [found[side]["peak"] / MEGABYTE if found["resets"] else None for side in found["sides"]]
    if not found["resets"]:
        note = "this system does not tell the peak memory of a part of a process (Linux does)"
    rows.append(
        compare(
            f"peak memory of the process, {size}",
            "MB",
            peaks[0],
            peaks[1] if with_peer else None,
            bar=size.memory_bar,
            note=note,
            **shared,
        )
    )
    return rows


class _Side:
    """One way of measuring the text: its log-likelihood and the peak memory of its last call."""

    def __init__(self, log_likelihood: Callable[[], float]) -> None:
        self.log_likelihood = log_likelihood
        self.value = self.peak = 0.0

    def seconds(self) -> float:
        reset_peak()
        time = seconds(self._call)
        self.peak = peak_bytes()
        return time

    def _call(self) -> None:
        self.value = self.log_likelihood()


def both(size: dict[str, Any], with_peer: bool) -> dict[str, Any]:
    """Time and peak memory of ours and of the harness at its fastest batch size, on one text and model.

    One document of whole windows: there, both cut the text at the same places. The harness's imports count in
    both peaks, which favours neither. Raises AssertionError where the log-likelihoods differ by over 1e-5.
    """
    shape = Size(**{**size, "batches": tuple(size["batches"])})
    model, tokenizer = _model(shape), _tokenizer(shape)
    ids = np.random.default_rng(1).integers(1, shape.vocabulary, size=shape.tokens)
    text = " ".join(f"w{i}" for i in ids)
    sides = {"ours": _Side(lambda: -_ours(model, tokenizer, text, shape))}
    batches = [b for b in shape.batches if _fits(shape, b)]
    if with_peer:
        sides |= {f"batch {b}": _Side(_harness(model, tokenizer, text, shape, b)) for b in batches}
    _ours(model, tokenizer, text[: 4 * shape.window], shape)  # what a process pays once is in neither's time
    times = dict(zip(sides, interleaved([side.seconds for side in sides.values()], shape.repeats), strict=True))
    found = {
        "resets": reset_peak(),
        "sides": ["ours"],
        "ours": {"seconds": times["ours"], "peak": sides["ours"].peak},
    }
    if not with_peer:
        return found
    for name, side in sides.items():
        error = abs(side.value / sides["ours"].value - 1)
        assert error <= TOLERANCE, f"ours and lm_eval ({name}) differ by {error:.2g} in log-likelihood"
    best = min(batches, key=lambda b: times[f"batch {b}"])
    chosen = f"batch {best}"
    left_out = [str(b) for b in shape.batches if b not in batches]
    return found | {
        "sides": ["ours", "theirs"],
        "theirs": {"seconds": times[chosen], "peak": sides[chosen].peak},
        "best_batch": best,
        "left_out": f"lm_eval at batch {', '.join(left_out)} needs more memory than there is" if left_out else None,
    }


def _fits(size: Size, batch: int) -> bool:
    """Whether the harness's logits and their log-softmax leave a third of the machine's memory free."""
    needed = 2 * 4 * batch * size.window * size.vocabulary
    return needed < 2 / 3 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _ours(model: Any, tokenizer: Any, text: str, size: Size) -> float:
    """Nats of the text, from text as the harness has it; no end-of-text at its end, which the harness has not."""
    tokens = np.asarray(tokenizer(text)["input_ids"])
    documents = np.array([[len(tokens), len(text), size.tokens]])
    return measure(model, tokens, documents, eos_id=0, window=size.window, batch_size=32).nats


def _harness(model: Any, tokenizer: Any, text: str, size: Size, batch: int) -> Callable[[], float]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, max_length=size.window)
    request = Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0)
    return lambda: harness.loglikelihood_rolling([request], disable_tqdm=True)[0]


def _model(size: Size) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=2 * size.width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=max(size.window, 128),
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def _tokenizer(size: Size) -> Any:
    """One token for each made-up word: a vocabulary of any size without training one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    end = "<|endoftext|>"
    words = {end: 0} | {f"w{i}": i for i in range(1, size.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=end))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, bos_token=end, unk_token=end)
