"""A model in memory as lm-evaluation-harness wants it: on several ranks, beyond its context, and going on after a stop.

The harness takes no part in distributed runs for a model that it did not load itself. Every rank has the whole model
here, and is told to take every n-th document; what the ranks then exchange is small.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lm_eval import utils
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM

from clp_transfer.train.together import rank, ranks

Request = tuple[Any, list[int], list[int]]  # (context, continuation) or None, tokens of the two


class TaskModel(HFLM):  # type: ignore[misc]
    """A causal language model for the harness; `split`: share the documents of a task among all ranks."""

    def __init__(self, model: torch.nn.Module, tokenizer: Any, batch_size: int, *, split: bool = True) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        if split and ranks() > 1:
            self._rank, self._world_size = rank(), ranks()
            self.accelerator = _Ranks()

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """As the harness's, but right for texts that repeat themselves, too."""
        with self._each_window_alone():
            return list(super().loglikelihood_rolling(requests, disable_tqdm))

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """As the harness's, but a continuation longer than the context is read in windows instead of refused.

        The windows are those of the rolling log-likelihood, which the paper's sentence pairs are measured by.
        """
        long = {i for i, (_, _, continuation) in enumerate(requests) if len(continuation) > self.max_length}
        short = [request for i, request in enumerate(requests) if i not in long]
        found = iter(super()._loglikelihood_tokens(short, disable_tqdm, override_bs) if short else [])
        return [
            self._in_windows(request, disable_tqdm) if i in long else next(found) for i, request in enumerate(requests)
        ]

    def _in_windows(self, request: Request, disable_tqdm: bool) -> tuple[float, bool]:
        windows = utils.get_rolling_token_windows(
            token_list=request[2], prefix_token=request[1][-1], max_seq_len=self.max_length, context_len=1
        )
        parts = [(None, *utils.make_disjoint_window(window)) for window in windows]
        with self._each_window_alone():
            found = super()._loglikelihood_tokens(parts, disable_tqdm)
        return sum(score for score, _ in found), all(greedy for _, greedy in found)

    @contextmanager
    def _each_window_alone(self) -> Iterator[None]:
        """The harness 0.4.13 computes windows of equal tokens once, and errs where they count different parts of them.

        240 tokens of a repeated word at a context of 64 lose half a nat so. Answers to one prompt are not concerned.
        """
        before: bool = self.logits_cache  # type: ignore[has-type]
        self.logits_cache = False
        try:
            yield
        finally:
            self.logits_cache = before


class _Ranks:
    """What the harness asks of an `accelerate.Accelerator`, for ranks that some other launcher or library started."""

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensors of all ranks, end to end."""
        flat = tensor.reshape(-1).contiguous()
        parts = [torch.empty_like(flat) for _ in range(ranks())]
        torch.distributed.all_gather(parts, flat)
        return torch.cat(parts)

    def wait_for_everyone(self) -> None:
        """Until every rank is here."""
        torch.distributed.barrier()

    def unwrap_model(self, model: Any) -> Any:
        """The model itself: nothing wraps it."""
        return model


class RememberingModel(CachingLM):  # type: ignore[misc]
    """The harness's `CachingLM` over a text file: answers are kept as they come, and not asked for again.

    The harness's SQLite file waits for the disk at every answer; a line of text survives a killed process as well.
    """

    def __init__(self, lm: TaskModel, path: Path) -> None:
        self.lm, self.cache_db, self.dbdict = lm, str(path), _Answers(path)
        lm.set_cache_hook(self.get_cache_hook())


class _Answers(dict[str, Any]):
    """Answers by the hash of their request, each a line of JSON in a file; a last line that is cut off is dropped."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, whole = path, 0
        for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():
            try:
                key, answer = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            super().__setitem__(key, tuple(answer) if isinstance(answer, list) else answer)
            whole += len(line)
        self.file = path.open("ab")
        self.file.truncate(whole)

    def __setitem__(self, key: str, answer: Any) -> None:
        if key not in self:
            super().__setitem__(key, answer)
            self.file.write(json.dumps([key, answer]).encode() + b"\n")
            self.file.flush()

    def commit(self) -> None:
        """Nothing is held back; the harness calls it after every task."""

    def forget(self) -> None:
        """Delete the file."""
        self.file.close()
        self.path.unlink(missing_ok=True)
