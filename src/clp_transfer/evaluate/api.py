"""Perplexity as one call, of a model in memory or any that can be found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.evaluate.job import PRECISIONS, WINDOWS
from clp_transfer.evaluate.likelihood import Likelihood
from clp_transfer.evaluate.load import check_rows, load_model, load_tokenizer
from clp_transfer.evaluate.score import Cutting, score
from clp_transfer.evaluate.texts import from_strings
from clp_transfer.evaluate.tokens import Tokens, window_length
from clp_transfer.evaluate.windows import strides


def perplexity_of(
    model: Any,
    tokenizer: Any = None,
    texts: Sequence[str] | Mapping[str, Sequence[str]] = (),
    *,
    windows: str = "rolling",
    window: int | None = None,
    stride: int | None = None,
    batch_size: int | None = None,
    precision: str | None = None,
    bootstrap: int = 1000,
    seed: int = 1,
) -> dict[str, Any]:
    """The perplexity of documents in every unit, as `evaluate.py` writes it to results.json.

    `model`: a causal language model in memory with its tokenizer, or a folder or hub id (whose tokenizer is then the
    default). `texts`: the documents, or by name the documents of each part (`parts` in the result). The other options
    are those of `evaluate.*`; `precision` None: bf16 on a GPU, fp32 elsewhere. Under torch.distributed, if it is
    initialised, the ranks share the work and each gets the result.

    Raises UserError for no text, a tokenizer that does not fit the model, and a loss that is not finite.
    """
    for key, value, choices in (("windows", windows, WINDOWS), ("precision", precision, (None, *PRECISIONS))):
        if value not in choices:
            raise UserError(f"{key}={value} is unknown", f"choose one of {', '.join(map(str, choices))}")
    if isinstance(model, str | Path):
        from clp_transfer.clp.checkpoint.locate import locate

        folder = locate(model)
        model = load_model(folder)
        tokenizer = tokenizer if tokenizer is not None else load_tokenizer(folder, model)
    check_rows(tokenizer, model, tokenizer.name_or_path or "the tokenizer")
    parts = [name for name, some in texts.items() for _ in some] if isinstance(texts, Mapping) else None
    documents = [one for some in texts.values() for one in some] if isinstance(texts, Mapping) else list(texts)
    tokens, length = Tokens(tokenizer), window_length(model, tokenizer, window)
    cutting = Cutting(windows, length, strides(windows, length, stride))
    text = from_strings("texts", documents, tokens, stream=windows == "stream", parts=parts)
    device = next(model.parameters()).device
    chosen = precision or ("fp32" if device.type == "cpu" else "bf16")
    scores = score(Likelihood(model, chosen, batch_size), text, cutting)
    begins = {} if windows == "stream" else {"bos": tokens.about()}
    about = {**cutting.about(), **begins, "precision": chosen}
    return scores.record(resamples=bootstrap, seed=seed, about=about)
