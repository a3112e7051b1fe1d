"""What a model writes after a beginning: all at once, or as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from clp_transfer.demo.models import Opened
from clp_transfer.errors import UserError
from clp_transfer.evaluate.tokens import Tokens, context_length

# One at a time: the seed belongs to torch's global generator.
_WRITING = Lock()


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. `temperature` 0: the likeliest; `top_k` 0 and `top_p` 1: from all tokens."""

    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 0
    tokens: int = 80
    seed: int = 1

    def check(self) -> None:
        """Raise UserError for a value that is out of range."""
        ranges = {"temperature": (0, 5), "top_p": (0.01, 1), "top_k": (0, 1_000_000), "tokens": (1, 100_000)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"{name} is {value}", f"choose a value from {low} to {high}")


def write(opened: Opened, beginning: str, sampling: Sampling) -> str:
    """The continuation, without the beginning; raises UserError as `stream` does."""
    ids, config = _prepare(opened, beginning, sampling)
    return _decoded(opened, _generate(opened, ids, config, sampling.seed)[len(ids) :])


def stream(opened: Opened, beginning: str, sampling: Sampling) -> Iterator[str]:
    """The continuation so far, longer each time; the last is what `write` gives for the same seed.

    The model works in a thread, and stops when the iterator is closed. Raises UserError for a model that is not open,
    a setting out of range, and a beginning that fills the model's context.
    """
    ids, config = _prepare(opened, beginning, sampling)
    tokens, stop, failed = _Tokens(len(ids)), Event(), []

    def work() -> None:
        try:
            _generate(opened, ids, config, sampling.seed, tokens, stop)
        except BaseException as error:
            failed.append(error)
        finally:
            tokens.queue.put(None)

    Thread(target=work, daemon=True).start()
    written: list[int] = []
    try:
        while (new := tokens.queue.get()) is not None:
            written += new
            # A character of several tokens shows when it is whole.
            if not (text := _decoded(opened, written)).endswith("�"):
                yield text
    finally:
        stop.set()
    if failed:
        raise UserError(f"{opened.name} cannot go on: {type(failed[0]).__name__}: {failed[0]}")
    yield _decoded(opened, written)


def _prepare(opened: Opened, beginning: str, sampling: Sampling) -> tuple[list[int], GenerationConfig]:
    """The context's ids, behind the token that begins a document, and transformers' own settings."""
    if opened.error:
        raise UserError(f"{opened.name} is not open: {opened.error}")
    sampling.check()
    tokens = Tokens(opened.tokenizer)
    ids = [tokens.begin, *opened.tokenizer(beginning, add_special_tokens=False)["input_ids"]]
    room = context_length(opened.model, opened.tokenizer)
    length = sampling.tokens if room is None else min(sampling.tokens, room - len(ids))
    if length < 1:
        raise UserError(f"the beginning has {len(ids)} tokens, the context of {opened.name} {room}", "shorten it")
    drawn: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        drawn = {"do_sample": True, "temperature": float(sampling.temperature)}
        drawn |= {"top_p": float(sampling.top_p), "top_k": int(sampling.top_k)}
    # One sequence needs no padding, so any pad id will do.
    ends = {"eos_token_id": tokens.end, "pad_token_id": tokens.end}
    return ids, GenerationConfig(max_new_tokens=int(length), **drawn, **ends)


def _generate(
    opened: Opened,
    ids: list[int],
    config: GenerationConfig,
    seed: int,
    streamer: BaseStreamer | None = None,
    stop: Event | None = None,
) -> list[int]:
    """transformers' `generate` with its own seed; the global generator is left as it was."""
    inputs = torch.tensor([ids], device=opened.model.device)
    criteria = StoppingCriteriaList([_Stopped(stop)] if stop else [])
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    with _WRITING, torch.random.fork_rng(devices), torch.inference_mode():
        torch.manual_seed(int(seed))
        output = opened.model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            generation_config=config,
            streamer=streamer,
            stopping_criteria=criteria,
        )
    found: list[int] = output[0].tolist()
    return found


def _decoded(opened: Opened, ids: list[int]) -> str:
    return str(opened.tokenizer.decode(ids, skip_special_tokens=True))


class _Tokens(BaseStreamer):
    """New tokens as `generate` makes them, in a queue.

    transformers' TextIteratorStreamer would decode words alone, which loses spaces in some tokenizers.
    """

    def __init__(self, prompt: int) -> None:
        self.queue: SimpleQueue[list[int] | None] = SimpleQueue()
        self.left = prompt  # `generate` hands the prompt over first

    def put(self, value: Any) -> None:
        """Take the next tokens."""
        ids = value.reshape(-1).tolist()
        new, self.left = ids[self.left :], max(0, self.left - len(ids))
        if new:
            self.queue.put(new)

    def end(self) -> None:
        """Nothing: whoever called `generate` says that it has ended, its generator's state restored."""


class _Stopped(StoppingCriteria):
    def __init__(self, stop: Event) -> None:
        self.stop = stop

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return torch.full((len(input_ids),), self.stop.is_set(), dtype=torch.bool, device=input_ids.device)
