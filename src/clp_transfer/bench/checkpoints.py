"""Made-up checkpoints of real shapes: drawn weights written tensor by tensor, so that 7B needs no 14 GB of memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig

from clp_transfer.bench.text import documents, made_words
from clp_transfer.files import write_json
from clp_transfer.prepare.bpe import END_OF_TEXT, save_bpe, train_bpe

Shapes = dict[str, tuple[int, ...]]

# transformers' own limit of a shard, for many years.
SHARD_BYTES = 5_000_000_000
# Values drawn at a time: 64 MB in float32.
BLOCK = 1 << 24
DTYPES = {torch.bfloat16: "BF16", torch.float32: "F32"}


def workplace(quick: bool) -> Path:
    """Where checkpoints are made: on the disk of the working folder, since the temporary folder may be memory."""
    place = Path(tempfile.gettempdir() if quick else "outputs/bench").absolute()
    place.mkdir(parents=True, exist_ok=True)
    return place


def write_model(
    folder: Path,
    config: PretrainedConfig,
    tokenizer: Tokenizer,
    *,
    seed: int,
    dtype: torch.dtype = torch.bfloat16,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """A model folder as transformers writes it: safetensors in shards, configs, tokenizer. Weights are drawn.

    Matrices are normal with deviation 0.02, the vocabulary's with a part that all rows share (as trained ones have);
    vectors are one. Tied heads are left out, as in every saved model.
    """
    folder.mkdir(parents=True)
    skeleton = Skeleton.of(config)
    shapes, tables = skeleton.shapes, skeleton.tables
    config.dtype = dtype
    config.architectures = [skeleton.architecture]
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    save_bpe(tokenizer, folder)
    draw = torch.Generator().manual_seed(seed)
    shards = list(_shards(shapes, dtype.itemsize, shard_bytes))
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = ["model.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        _write_shard(folder / name, shard, dtype, tables, draw)
    if len(shards) > 1:
        index = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        size = sum(_count(shape) for shape in shapes.values()) * dtype.itemsize
        write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": index})
    return folder


@dataclass(frozen=True)
class Skeleton:
    """A model without weights: its class, each parameter that a file holds, which of them are vocabulary tables."""

    architecture: str
    shapes: Shapes
    tables: set[str]

    @classmethod
    def of(cls, config: PretrainedConfig) -> Skeleton:
        """From transformers' own class, on no device."""
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        # Tied, so that named_parameters gives what is shared only once.
        model.tie_weights()
        tables = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
        parameters = dict(model.named_parameters())
        shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
        return cls(type(model).__name__, shapes, {name for name, p in parameters.items() if id(p) in tables})


def bytes_of(config: PretrainedConfig, dtype: torch.dtype = torch.bfloat16) -> int:
    """How large a model's files are."""
    return sum(_count(shape) for shape in Skeleton.of(config).shapes.values()) * dtype.itemsize


def _shards(shapes: Shapes, itemsize: int, limit: int) -> Iterator[Shapes]:
    """Parameters in their order, cut before a shard would become larger than the limit."""
    shard: Shapes = {}
    size = 0
    for name, shape in shapes.items():
        more = _count(shape) * itemsize
        if shard and size + more > limit:
            yield shard
            shard, size = {}, 0
        shard[name] = shape
        size += more
    yield shard


def _write_shard(path: Path, shapes: Shapes, dtype: torch.dtype, tables: set[str], draw: torch.Generator) -> None:
    """The safetensors format: the header's length, the header in JSON, then every tensor's bytes in its order."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + _count(shape) * dtype.itemsize
        header[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            _write_tensor(file, shape, dtype, shared=name in tables, draw=draw)


def _write_tensor(
    file: BinaryIO, shape: tuple[int, ...], dtype: torch.dtype, *, shared: bool, draw: torch.Generator
) -> None:
    width = shape[-1]
    common = torch.randn(width, generator=draw) if shared else torch.zeros(width)
    rows, step = _count(shape) // width, max(1, BLOCK // width)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        if len(shape) == 1:
            block: Tensor = torch.ones(count, width)
        else:
            block = torch.randn(count, width, generator=draw).add_(common).mul_(0.02)
        file.write(block.to(dtype).view(torch.uint8).numpy().data)


def _count(shape: Iterable[int]) -> int:
    return int(np.prod(list(shape)))


def trained_tokenizer(vocabulary: int, *, seed: int, quick: bool = False) -> Tokenizer:
    """A byte-level BPE trained on made-up text: another seed has other words, but the same function words."""
    size, types = (200_000, 2_000) if quick else (16_000_000, 120_000)
    return train_bpe(documents(size, seed=seed, types=types), vocabulary, name=f"bench-{seed}")


def grown_tokenizer(vocabulary: int, *, seed: int) -> Tokenizer:
    """A byte-level BPE of any size without training: made-up words and all their beginnings.

    Words come until the vocabulary is full, with a space before three out of four. It reads every text, but a merge
    of one word may get in the way of another, so that a word of the vocabulary need not be read as one token.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = {token: index for index, token in enumerate([END_OF_TEXT, *alphabet])}
    merges: list[tuple[str, str]] = []
    draw = np.random.default_rng(seed)
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for number, word in enumerate(made_words(vocabulary, draw)):
        (spelling, _), *_ = split.pre_tokenize_str(word if number % 4 == 0 else f" {word}")
        for end in range(2, len(spelling) + 1):
            if len(tokens) == vocabulary:
                break
            if spelling[:end] not in tokens:
                tokens[spelling[:end]] = len(tokens)
                merges.append((spelling[: end - 1], spelling[end - 1]))
        if len(tokens) == vocabulary:
            break
    tokenizer = Tokenizer(models.BPE(vocab=tokens, merges=merges))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer
