"""Byte-level BPE tokenizers, trained on one corpus's train split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from clp_transfer.errors import UserError

END_OF_TEXT = "<|endoftext|>"


def train_bpe(texts: Iterable[str], vocab_size: int, *, name: str) -> Tokenizer:
    """Train a byte-level BPE of exactly `vocab_size` entries with GPT-2's pre-tokenization.

    Id 0 is `<|endoftext|>`, then come all 256 bytes, so that every text can be written. Raises UserError
    where the text has too few pairs that occur twice to fill the vocabulary, or that has no room for the bytes.
    """
    least = 1 + len(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < least:
        raise UserError(
            f"tokenizer {name}: vocab_size={vocab_size} is less than the {least} entries of a byte-level BPE "
            "without any merge",
            f"set vocab_size to {least} or more",
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        reached = tokenizer.get_vocab_size()
        raise UserError(
            f"tokenizer {name}: vocab_size={vocab_size}, but its text supports {reached} entries",
            f"set vocab_size between {least} and {reached}, or train it on more text",
        )
    return tokenizer


def save_bpe(tokenizer: Tokenizer, folder: Path) -> None:
    """Save as a folder that `AutoTokenizer.from_pretrained` loads; all special tokens are `<|endoftext|>`.

    `model_max_length` stays unset ("unlimited"): the context is the model's matter, not the tokenizer's.
    """
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)
