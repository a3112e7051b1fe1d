"""A tiny tokenizer of every kind, in the shapes of the known families."""

from __future__ import annotations

import json

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "Die Straße ist größer als das Haus, und die Tür (grün) ist offen!",
    "The house is big; the street is bigger, and the door (green) is open.",
    "größe Größe Straße Straßen Haus Häuser Hausboot 2024 1999 20 24 – „Zitat“ 你好 😀",
    "the great and the good: house, houses, household, 2024; street-car; über alles",
] * 5


def byte_level(
    size: int = 480,
    *,
    split: bool = False,
    prefix_space: bool = False,
    special: tuple[str, ...] = ("<|endoftext|>",),
    texts: list[str] = TEXTS,
) -> Tokenizer:
    """GPT-2's shape; with `split` Llama 3's (its own regular expression before the bytes)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    if split:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def sentencepiece_bpe(form: str) -> Tokenizer:
    """Llama 2's shape (`prepend` or `metaspace`) or Gemma's (`replace`): BPE over ▁, with a byte fallback."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(TEXTS[:2] * 5, trainers.BpeTrainer(vocab_size=160, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    fixed = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    # Some characters are left to the byte fallback.
    pieces = [*fixed, *sorted(model["vocab"], key=model["vocab"].get)]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if form == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif form == "replace":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(steps if form == "replace" else [*steps, decoders.Strip(" ", 1, 0)])
    return tokenizer


def unigram() -> Tokenizer:
    """The shape of XGLM, XLM-R and T5: no byte fallback."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def wordpiece() -> Tokenizer:
    """BERT's shape, cased."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=220, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


END = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
BERT = {role + "_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}

MAKERS = {
    "gpt2": (byte_level, END),
    "llama3": (lambda: byte_level(420, split=True), END),
    "prefix-space": (lambda: byte_level(450, prefix_space=True), END),
    "llama2": (lambda: sentencepiece_bpe("prepend"), LLAMA),
    "metaspace": (lambda: sentencepiece_bpe("metaspace"), LLAMA),
    "gemma": (lambda: sentencepiece_bpe("replace"), LLAMA),
    "xglm": (unigram, LLAMA | {"pad_token": "<pad>"}),
    "bert": (wordpiece, BERT),
}


def make(name: str, **changes: str | None) -> PreTrainedTokenizerFast:
    """A fresh tokenizer of a shape, with other special tokens (None: none in a role)."""
    maker, roles = MAKERS[name]
    kept = {role: token for role, token in (roles | changes).items() if token is not None}
    return PreTrainedTokenizerFast(tokenizer_object=maker(), **kept)
