"""Texts as a model's own tokens, behind the token that begins a document; and how long a context the model has."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clp_transfer.errors import UserError

# Where a config may say how many positions there are, in the harness's order; and what it takes where none does.
POSITIONS = ("n_positions", "max_position_embeddings", "n_ctx")
DEFAULT_CONTEXT = 2048
NO_LIMIT = int(1e20)  # tokenizers say a larger number where they know of no limit
TEXTS = 1000  # that are encoded at once


def context_length(model: Any, tokenizer: Any) -> int | None:
    """Most tokens that the model can see at once by its config, else its tokenizer; None where neither says."""
    config = model.config.get_text_config()
    for name in POSITIONS:
        if (found := getattr(config, name, None)) is not None:
            return int(found)
    told = getattr(tokenizer, "model_max_length", None)
    return None if told is None or told > NO_LIMIT else int(told)


def window_length(model: Any, tokenizer: Any, wanted: int | None) -> int:
    """The window in tokens: `wanted`, or the model's context (2,048 where it is not known, as in the harness).

    Raises UserError where the model's positions end before the window does.
    """
    context = context_length(model, tokenizer)
    if wanted is None:
        return context or DEFAULT_CONTEXT
    if context is not None and wanted > context:
        raise UserError(
            f"evaluate.window={wanted} is more than the model's context of {context} tokens",
            f"set evaluate.window to at most {context}, or leave it out for all of it",
        )
    return wanted


class Tokens:
    """A model's tokenizer for measuring: documents become ids, the beginning token first.

    `begin` is the beginning-of-sequence token, else end-of-sequence, as in lm-evaluation-harness; `end` closes the
    documents of a stream: end-of-sequence, else `begin`. Raises UserError where the tokenizer has neither.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        known = [i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None]
        if not known:
            raise UserError(
                f"the tokenizer {tokenizer.name_or_path or ''} has neither a beginning- nor an end-of-sequence token,"
                " one of which must begin a document",
                "set bos_token or eos_token in its tokenizer_config.json",
            )
        self.begin, self.end = int(known[0]), int(known[-1])

    def about(self) -> dict[str, Any]:
        """What begins a document, for the result."""
        added = [self.tokenizer.convert_ids_to_tokens(part) for part in self.added]
        return {
            "token": self.tokenizer.convert_ids_to_tokens(self.begin),
            "id": self.begin,
            "tokenizer_adds": added[0] + added[1],
        }

    @cached_property
    def added(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer itself puts before and after a text; the harness predicts them too."""
        with_them, without = (self._encode(["a"], special)[0] for special in (True, False))
        for before in range(len(with_them) - len(without) + 1):
            if with_them[before : before + len(without)] == without:
                return with_them[:before], with_them[before + len(without) :]
        return [], []

    def documents(self, texts: list[str]) -> list[NDArray[np.int32]]:
        """The ids of each text as the tokenizer makes them, int32, behind `begin`.

        As in the harness, the tokenizer adds nothing to a text that already begins with `begin` in characters.
        """
        word = self.tokenizer.decode([self.begin])
        found = []
        for start in range(0, len(texts), TEXTS):
            some = texts[start : start + TEXTS]
            encoded = self._encode(some, True)
            for number, text in enumerate(some):
                ids = encoded[number]
                if word and text.startswith(word):
                    ids = self._encode([text], False)[0]
                found.append(np.array([self.begin, *ids], dtype=np.int32))
        return found

    def wrapped(self, ids: NDArray[Any]) -> NDArray[np.int32]:
        """A document whose ids are there already, as `documents` would give it."""
        before, after = self.added
        return np.concatenate([[self.begin, *before], ids, after]).astype(np.int32)

    def stream(self, texts: list[str]) -> list[NDArray[np.int32]]:
        """The ids of each text with nothing added but `end` behind it, int32."""
        plain = (ids for start in range(0, len(texts), TEXTS) for ids in self._encode(texts[start : start + TEXTS]))
        return [np.array([*ids, self.end], dtype=np.int32) for ids in plain]

    def _encode(self, texts: list[str], special: bool = False) -> list[list[int]]:
        """`verbose`: no warning that a text is longer than the context: it is cut into windows."""
        found: list[list[int]] = self.tokenizer(
            texts, add_special_tokens=special, return_attention_mask=False, verbose=False
        )["input_ids"]
        return found
