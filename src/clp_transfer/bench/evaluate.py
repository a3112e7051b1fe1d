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
from clp_transfer.evaluate.head import ENTRIES, ROWS
from clp_transfer.evaluate.likelihood import Likelihood
from clp_transfer.evaluate.score import Cutting, score
from clp_transfer.evaluate.texts import from_strings
from clp_transfer.evaluate.tokens import Tokens

PEER = "lm_eval rolling"
# How far the log-likelihoods may be apart, relatively: in bfloat16 the harness rounds each token's to 8 bits.
TOLERANCE = {"fp32": 1e-5, "bf16": 5e-3}


@dataclass(frozen=True)
class Size:
    """A model as small ones are, documents of mixed lengths, and the bars of speed and memory, if any.

    Lengths are log-normal about `median` tokens: from a few words to several windows, as in news or on web pages.
    `precision` is that of both sides.
    """

    vocabulary: int
    precision: str
    speed_bar: float | None
    memory_bar: float | None
    documents: int = 32
    median: int = 180
    window: int = 256
    batches: tuple[int, ...] = (1, 8, 32)
    width: int = 256
    layers: int = 6
    repeats: int = 3

    def __str__(self) -> str:
        shape = f"Llama d{self.width}x{self.layers} with a vocabulary of {self.vocabulary:,}, {self.precision}"
        return f"{shape}, {self.documents} documents about {self.median} tokens, windows of {self.window}"

    def lengths(self) -> list[int]:
        """Tokens of each document."""
        drawn = np.random.default_rng(1).lognormal(np.log(self.median), 0.8, self.documents)
        return [max(2, int(n)) for n in drawn]


SIZES = (
    Size(50_257, "fp32", 1.5, None),
    Size(250_880, "fp32", 3.0, 2.0, documents=16, repeats=2),
    Size(50_257, "bf16", 1.5, None),
    Size(250_880, "bf16", 3.0, 2.0, documents=16, repeats=2),
)
TINY = {"documents": 6, "median": 20, "window": 16, "width": 12, "layers": 1, "repeats": 1}
QUICK = (Size(500, "fp32", 1.5, None, **TINY), Size(2_000, "fp32", 3.0, 2.0, **TINY))  # type: ignore[arg-type]


def run(quick: bool) -> list[Row]:
    """Measure both in one process a size, in turns; raises RuntimeError where their log-likelihoods differ."""
    rows: list[Row] = []
    with_peer = installed("lm_eval")
    for size in QUICK if quick else SIZES:
        found = run_alone(f"{__name__}:both", {"size": asdict(size), "with_peer": with_peer})
        rows += _rows(size, found, with_peer)
    return rows


def _rows(size: Size, found: dict[str, Any], with_peer: bool) -> list[Row]:
    best, tokens = found.get("best_batch"), sum(size.lengths())
    shared: dict[str, Any] = {"peer_name": f"{PEER}, batch {best}" if with_peer else PEER}
    notes = [found["left_out"]] if found.get("left_out") else []
    if with_peer:
        product, theirs = found["product"], found["theirs"]["seconds"]
        notes.append(
            f"{size}: of our {found['ours']['seconds']:.1f} s the head's matrix product alone takes {product:.1f} s, so"
            f" nothing that computes it in {size.precision} is more than {theirs / product:.1f} times as fast as {PEER}"
        )
    note = missing("lm_eval") if not with_peer else "; ".join(notes) or None
    rows = [
        compare(
            f"log-likelihood, {size}",
            "tokens/s",
            tokens / found["ours"]["seconds"],
            tokens / found["theirs"]["seconds"] if with_peer else None,
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
    if found["resets"]:
        beyond = [(found[side]["peak"] - found[side]["rest"]) / MEGABYTE for side in found["sides"]]
        theirs = beyond[1] if with_peer else None
        rows.append(compare(f"of it beyond the process at rest, {size}", "MB", beyond[0], theirs, note=note, **shared))
    return rows


class _Side:
    """One way of measuring the texts: their log-likelihood and the peak memory of its last call."""

    def __init__(self, log_likelihood: Callable[[], float]) -> None:
        self.log_likelihood = log_likelihood
        self.value = self.peak = self.rest = 0.0

    def seconds(self) -> float:
        reset_peak()
        self.rest = peak_bytes()  # begins again from what is held
        time = seconds(self._call)
        self.peak = peak_bytes()
        return time

    def _call(self) -> None:
        self.value = self.log_likelihood()


def both(size: dict[str, Any], with_peer: bool) -> dict[str, Any]:
    """Time and peak memory of ours and of the harness at its fastest batch size, on the same texts and model.

    From text to number on both sides. The harness's imports count in both peaks, which favours neither. Raises
    AssertionError where the log-likelihoods differ.
    """
    shape = Size(**{**size, "batches": tuple(size["batches"])})
    model, tokenizer, texts = _model(shape), _tokenizer(shape), _texts(shape)
    sides = {"ours": _Side(lambda: _ours(model, tokenizer, texts, shape))}
    batches = [b for b in shape.batches if _fits(shape, b)]
    if with_peer:
        sides |= {f"batch {b}": _Side(_harness(model, tokenizer, texts, shape, b)) for b in batches}
    _ours(model, tokenizer, texts[:1], shape)  # what a process pays once is in neither's time
    calls = [*(side.seconds for side in sides.values()), lambda: seconds(lambda: _product(model, shape))]
    times = dict(zip([*sides, "product"], interleaved(calls, shape.repeats), strict=True))
    found = {
        "resets": reset_peak(),
        "sides": ["ours"],
        "ours": {"seconds": times["ours"], "peak": sides["ours"].peak, "rest": sides["ours"].rest},
    }
    if not with_peer:
        return found
    for name, side in sides.items():
        error = abs(side.value / sides["ours"].value - 1)
        assert error <= TOLERANCE[shape.precision], f"ours and {name} differ by {error:.2g} in log-likelihood"
    best = min(batches, key=lambda b: times[f"batch {b}"])
    chosen = f"batch {best}"
    left_out = [str(b) for b in shape.batches if b not in batches]
    return found | {
        "sides": ["ours", "theirs"],
        "theirs": {"seconds": times[chosen], "peak": sides[chosen].peak, "rest": sides[chosen].rest},
        "best_batch": best,
        "product": times["product"],
        "left_out": f"lm_eval at batch {', '.join(left_out)} needs more memory than there is" if left_out else None,
    }


def _fits(size: Size, batch: int) -> bool:
    """Whether the harness's logits and their log-softmax leave a third of the machine's memory free."""
    needed = 2 * 4 * batch * size.window * size.vocabulary
    return needed < 2 / 3 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _ours(model: Any, tokenizer: Any, texts: list[str], size: Size) -> float:
    text = from_strings("bench", texts, Tokens(tokenizer))
    return -float(
        score(Likelihood(model, size.precision), text, Cutting("rolling", size.window, size.window)).nats.sum()
    )


def _product(model: Any, size: Size) -> None:
    """The head's matrix product for as many tokens, in the pieces in which it is fastest, and nothing else."""
    weight = model.get_output_embeddings().weight.detach()
    weight = weight.bfloat16() if size.precision == "bf16" else weight
    hidden = torch.ones(sum(size.lengths()), size.width, dtype=weight.dtype)
    for rows in hidden.split(ROWS // 2):
        for part in weight.split(ENTRIES):
            torch.mm(rows, part.T)


def _harness(model: Any, tokenizer: Any, texts: list[str], size: Size, batch: int) -> Callable[[], float]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    half = {"mixed_precision_dtype": "bfloat16"} if size.precision == "bf16" else {}
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, max_length=size.window, **half)
    requests = [
        Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=number)
        for number, text in enumerate(texts)
    ]
    return lambda: sum(harness.loglikelihood_rolling(requests, disable_tqdm=True))


def _texts(size: Size) -> list[str]:
    """Documents of made-up words."""
    draw = np.random.default_rng(2)
    return [" ".join(f"w{i}" for i in draw.integers(1, size.vocabulary, n)) for n in size.lengths()]


def _model(size: Size) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    heads = max(1, size.width // 64)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=8 * size.width // 3,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
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
