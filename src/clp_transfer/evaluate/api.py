"""Perplexity as one call, of a model in memory or any that can be found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.evaluate.job import PRECISIONS, WINDOWS
from clp_transfer.evaluate.likelihood import Likelihood, default_precision
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
    default). `texts`: the documents, or by name the documents of each part (`parts` in the result); those without a
    character are left out and counted (`left_out`). The other options are those of `evaluate.*`; `precision` None: bf16
    on a GPU, fp32 elsewhere. Under torch.distributed, if it is initialised, the ranks share the work and each gets the
    result.

    Raises UserError for no text or what is no text, numbers that make no sense, a tokenizer that does not fit the model
    or is not given, and a loss that is not finite.
    """
    for key, value, choices in (("windows", windows, WINDOWS), ("precision", precision, (None, *PRECISIONS))):
        if value not in choices:
            raise UserError(f"{key}={value} is unknown", f"choose one of {', '.join(map(str, choices))}")
    _check_numbers(window=window, stride=stride, batch_size=batch_size, bootstrap=bootstrap)
    documents, parts, left_out = _checked(texts)
    if isinstance(model, str | Path):
        from clp_transfer.clp.checkpoint.locate import locate

        folder = locate(model)
        model = load_model(folder)
        tokenizer = tokenizer if tokenizer is not None else load_tokenizer(folder, model)
    if not callable(tokenizer):
        raise UserError(
            f"tokenizer={tokenizer!r} is no tokenizer, and a model in memory has none of its own",
            "give the one that the model was trained with: perplexity_of(model, tokenizer, texts)",
        )
    check_rows(tokenizer, model, tokenizer.name_or_path or "the tokenizer")
    tokens, length = Tokens(tokenizer), window_length(model, tokenizer, window)
    cutting = Cutting(windows, length, strides(windows, length, stride))
    text = from_strings("texts", documents, tokens, stream=windows == "stream", parts=parts)
    device = next(model.parameters()).device
    chosen = precision or default_precision(device.type)
    scores = score(Likelihood(model, chosen, batch_size), text, cutting)
    begins = {} if windows == "stream" else {"bos": tokens.about()}
    about = {
        **cutting.about(),
        **begins,
        "precision": chosen,
        **({"left_out": {"empty": left_out}} if left_out else {}),
    }
    return scores.record(resamples=bootstrap, seed=seed, about=about)


def _check_numbers(**numbers: int | None) -> None:
    """Raise UserError for a number that is no whole one, or too small."""
    for name, value in numbers.items():
        least = 0 if name == "bootstrap" else 1
        if value is not None and (not isinstance(value, Integral) or isinstance(value, bool) or value < least):
            raise UserError(f"{name}={value!r} makes no sense", f"expected: a whole number, {least} or more")


def _checked(texts: Any) -> tuple[list[str], list[str] | None, int]:
    """The documents, the part of each if parts are named, and how many were left out since they are empty.

    Raises UserError for what is no list of texts, or no UTF-8.
    """
    named = texts if isinstance(texts, Mapping) else {None: texts}
    documents: list[str] = []
    parts: list[str] = []
    left_out = 0
    for name, some in named.items():
        where = "texts" if name is None else f"texts[{name!r}]"
        if isinstance(some, str | bytes) or not isinstance(some, Iterable):
            raise UserError(f"{where} is {_shown(some)}, not a list of documents", "give a list of strings")
        for number, text in enumerate(some):
            _check_text(f"{where}[{number}]", text)
            if not text or text.isspace():
                left_out += 1
                continue
            documents.append(text)
            parts.append(str(name))
    if not documents:
        empty = f": {left_out} documents are empty" if left_out else ""
        raise UserError(f"texts is empty{empty}", "give at least one document with a character")
    return documents, parts if isinstance(texts, Mapping) else None, left_out


def _check_text(where: str, text: Any) -> None:
    if not isinstance(text, str):
        raise UserError(f"{where} is {_shown(text)}, not a text", "give each document as a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where} is no valid Unicode: {error.reason} at character {error.start}",
            'replace what could not be decoded: text.encode(errors="replace").decode()',
        ) from error


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"
