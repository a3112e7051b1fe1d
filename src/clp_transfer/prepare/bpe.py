"""Byte-level BPE tokenizers, trained on one corpus's train split, or on an even sample of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from clp_transfer.errors import UserError
from clp_transfer.prepare.chunks import chunk_paths, iter_texts, stored_bytes

END_OF_TEXT = "<|endoftext|>"
# Texts handed to the trainer at once: it counts their words in parallel.
BATCH = 256
# From the `tokenizer.json` of bigscience/bloom: up to the next space or full stop, digits and other signs included.
BLOOM_WORD = r" ?[^(\s|[.,!?…。，、।۔،])]+"


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _bloom() -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(BLOOM_WORD), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


# `<|endoftext|>` and all bytes.
LEAST_ENTRIES = 1 + len(pre_tokenizers.ByteLevel.alphabet())
# How a text is cut before any pair of bytes is joined.
PRE_TOKENIZERS: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {"gpt2": _gpt2, "bloom": _bloom}


def train_bpe(texts: Iterable[str], vocab_size: int, *, name: str, pre_tokenizer: str = "gpt2") -> Tokenizer:
    """Train a byte-level BPE of exactly `vocab_size` entries with GPT-2's or BLOOM's pre-tokenization.

    Id 0 is `<|endoftext|>`, then come all 256 bytes, so that every text can be written. Raises UserError
    where the text has too few pairs that occur twice to fill the vocabulary, or that has no room for the bytes,
    and for an unknown `pre_tokenizer`. Memory: about three bytes a byte of text.
    """
    if pre_tokenizer not in PRE_TOKENIZERS:
        raise UserError(
            f"tokenizer {name}: pre_tokenizer={pre_tokenizer} is not known", f"choose from {', '.join(PRE_TOKENIZERS)}"
        )
    check_size(vocab_size, name)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre_tokenizer]()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    remaining = iter(texts)
    tokenizer.train_from_iterator(iter(lambda: list(islice(remaining, BATCH)), []), trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        reached = tokenizer.get_vocab_size()
        raise UserError(
            f"tokenizer {name}: vocab_size={vocab_size}, but its text supports {reached} entries",
            f"set vocab_size between {LEAST_ENTRIES} and {reached}, or train it on more text",
        )
    return tokenizer


def check_size(vocab_size: int, name: str) -> None:
    """Raise UserError for a tokenizer that has no room for the bytes."""
    if vocab_size < LEAST_ENTRIES:
        raise UserError(
            f"tokenizer {name}: vocab_size={vocab_size} is less than the {LEAST_ENTRIES} entries of a byte-level BPE "
            "without any merge",
            f"set vocab_size to {LEAST_ENTRIES} or more",
        )


def sample_texts(chunks: Path, sample_bytes: int | None) -> Iterator[str]:
    """About `sample_bytes` UTF-8 bytes of a split's texts, evenly spread over it, at most one text more; None: all.

    A text is taken whenever the bytes taken fall behind their share of the bytes seen, so the same split gives the
    same sample. The whole size is read from the chunks' footers (four bytes a text too many).
    """
    share = 1.0
    if sample_bytes is not None:
        share = sample_bytes / max(1, sum(map(stored_bytes, chunk_paths(chunks))))
    if share >= 1:
        yield from iter_texts(chunks)
        return
    seen = taken = 0
    for text in iter_texts(chunks):
        size = len(text.encode())
        seen += size
        if taken < share * seen:
            taken += size
            yield text


def save_bpe(tokenizer: Tokenizer, folder: Path) -> None:
    """Save as a folder that `AutoTokenizer.from_pretrained` loads; all special tokens are `<|endoftext|>`.

    `model_max_length` stays unset ("unlimited"): the context is the model's matter, not the tokenizer's.
    """
    from transformers import PreTrainedTokenizerFast  # takes a second, which packing does not need

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)
