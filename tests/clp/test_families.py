"""Every family end to end: the same tokenizer gives the same model, another one a model that works."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tokenizers
from tiny.checks import check_copied, check_running, check_settings, load, tensors, vocabulary
from tiny.families import FAMILIES, Family, make_helper, quieten, save_family
from tiny.original import original_matrix
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import clp_transfer
from clp_transfer.clp.transfer import make_problem, solve

GERMAN = "der die das und Haus Straße Baum grün groß Tür über Mädchen fährt schön Wasser Stadt Hund in auf ist"
ENGLISH = "the a of and house street tree green big door over girl drives fine water city dog in on is Haus Baum"
METHODS = ("clp", "fvt", "random")  # by the helper, by pieces, drawn
END = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def text(words: str, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(words.split(), k=9)).capitalize() + "." for _ in range(80)]


@dataclass(frozen=True)
class Models:
    """All families with an English tokenizer; helpers with a German one: other ids, other special tokens."""

    root: Path
    families: dict[str, Family]
    tied: Path
    untied: Path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    quieten()
    root = tmp_path_factory.mktemp("families")
    english = tokenizers.byte_level(300, texts=text(ENGLISH, 1))
    german = tokenizers.byte_level(325, texts=text(GERMAN, 2), special=("<pad>", "<s>", "</s>"))
    source = PreTrainedTokenizerFast(tokenizer_object=english, **END)
    target = PreTrainedTokenizerFast(tokenizer_object=german, **LLAMA)
    families = {}
    for name in FAMILIES:
        # BLOOM has 200 rows more than tokens; so do others, but there it matters most.
        rows = len(source) + (9 if name == "bloom" else 0)
        ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
        families[name] = save_family(name, root / name, rows, **ids)
        source.save_pretrained(root / name)
    helpers = [make_helper(root / name, name, target) for name in ("llama-tied", "llama-untied")]
    return Models(root, families, *helpers)


# --- the same tokenizer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_tokenizer_gives_the_same_bytes(models: Models, tmp_path: Path, name: str, method: str) -> None:
    """Also the rows beyond the tokenizer."""
    source = models.families[name].folder
    helper = source if method == "clp" else None
    result = clp_transfer.transfer(source, helper, method, tokenizer=source)
    result.save(tmp_path / "out")
    assert result.report["overlap"]["identical"] and result.report["overlap"]["missing"] == 0
    before, after = tensors(source), tensors(tmp_path / "out")
    assert torch.equal(result.input, before[models.families[name].input])
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    for file in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"):
        assert (source / file).read_bytes() == (tmp_path / "out" / file).read_bytes(), file
    load(tmp_path / "out")


# --- another tokenizer


def shared_ids(source: Path, target: Path) -> tuple[list[int], list[int]]:
    """Ids of tokens whose strings are equal; both vocabularies are byte-level, so no string spells two things."""
    old, new = vocabulary(source), vocabulary(target)
    common = sorted(old.keys() & new.keys())
    assert 256 < len(common) < len(new) - 20
    return [old[token] for token in common], [new[token] for token in common]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FAMILIES)
def test_another_tokenizer_gives_a_model_that_works(models: Models, tmp_path: Path, name: str, method: str) -> None:
    family = models.families[name]
    result = clp_transfer.transfer(family.folder, models.untied, method)
    result.save(tmp_path / "out", pad_to_multiple_of=64)
    old, new = shared_ids(family.folder, models.untied)
    check_copied(family, tmp_path / "out", old, new)
    check_settings(family.folder, models.untied, tmp_path / "out", rows=384)
    check_running(family.folder, tmp_path / "out", old, new)
    made = tensors(tmp_path / "out")
    for table in family.tables:
        assert len(made[table]) == 384
        assert torch.equal(made[table][325:], made[table][325:326].expand_as(made[table][325:]))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_table_is_the_papers_formula(models: Models, tmp_path: Path, name: str) -> None:
    """A head of its own is made in the space of the helper's head where that has one; its bias goes with it."""
    family = models.families[name]
    before = {key: tensor.double() for key, tensor in tensors(family.folder).items()}
    vocabularies = vocabulary(family.folder), vocabulary(models.untied)
    made_ids = sorted(
        index
        for token, index in vocabularies[1].items()
        if token not in vocabularies[0] and token not in LLAMA.values()
    )
    for helper, spaces in ((models.untied, ("model.embed_tokens.weight", "lm_head.weight")), (models.tied, ())):
        result = clp_transfer.transfer(family.folder, helper)
        tables = [(result.input, before[family.input], 0)]
        if family.head:
            assert result.head is not None
            tables.append((result.head, before[family.head], 1))
        if family.bias:
            tables.append((result.rows.head_bias[:, None], before[family.bias][:, None], 1))
        for made, source, space in tables:
            rows = tensors(helper)[spaces[space] if spaces else "model.embed_tokens.weight"]
            expected = torch.from_numpy(original_matrix(source, rows, *vocabularies))[made_ids]
            scale = float(expected.abs().max())
            # Stored in bfloat16, a row has 8 bits.
            tolerance = 1e-5 if made.dtype == torch.float32 else 2**-8
            assert float((made[made_ids].double() - expected).abs().max()) < tolerance * scale
        assert (result.head is None) == (family.head is None)


@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision_is_kept(models: Models, tmp_path: Path, name: str) -> None:
    """bfloat16 rows are copied bit for bit, new ones are the float32 ones rounded, and the model runs in bfloat16."""
    family = models.families[name]
    half = replace(family, folder=tmp_path / "half")
    AutoModelForCausalLM.from_pretrained(family.folder, dtype=torch.bfloat16).save_pretrained(half.folder)
    AutoTokenizer.from_pretrained(family.folder).save_pretrained(half.folder)
    result = clp_transfer.transfer(half.folder, models.tied, "ridge")
    result.save(tmp_path / "out")
    old, new = shared_ids(half.folder, models.tied)
    assert {tensor.dtype for tensor in tensors(half.folder).values()} == {torch.bfloat16}
    check_copied(half, tmp_path / "out", old, new)
    model = load(tmp_path / "out")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert torch.isfinite(model(torch.tensor([new[:20]])).logits).all()
    missing = result.ingredients.overlap.missing
    problem = make_problem(result.ingredients, "input", result.method, result.seed)
    expected = solve(problem).rows.bfloat16()
    assert torch.equal(model.get_input_embeddings().weight[missing], expected)


def test_a_sharded_source_stays_sharded(models: Models, tmp_path: Path) -> None:
    family = models.families["phi"]
    sharded = replace(family, folder=tmp_path / "sharded")
    AutoModelForCausalLM.from_pretrained(family.folder).save_pretrained(sharded.folder, max_shard_size="20KB")
    AutoTokenizer.from_pretrained(family.folder).save_pretrained(sharded.folder)
    clp_transfer.transfer(sharded.folder, models.untied).save(tmp_path / "out", links="auto")
    clp_transfer.transfer(family.folder, models.untied).save(tmp_path / "whole")
    shards = sorted(path.name for path in sharded.folder.glob("model-*.safetensors"))
    assert len(shards) > 2 and shards == sorted(path.name for path in (tmp_path / "out").glob("model-*.safetensors"))
    made = {key: value for shard in shards for key, value in load_file(tmp_path / "out" / shard).items()}
    whole = tensors(tmp_path / "whole")
    assert made.keys() == whole.keys() and all(torch.equal(made[key], whole[key]) for key in whole)
    linked = [shard for shard in shards if (tmp_path / "out" / shard).stat().st_nlink > 1]
    assert linked  # the files without tables
    load(tmp_path / "out")


# --- another kind of tokenizer


def spelled(token: str, kind: str) -> str | None:
    """A token of ASCII letters as text, by hand; None for any other."""
    start, mark = {"byte-level": ("Ġ", ""), "SentencePiece": ("▁", ""), "WordPiece": ("", "##")}[kind]
    if start and token.startswith(start):
        token = f" {token.removeprefix(start)}"
    elif mark and token.startswith(mark):
        token = token.removeprefix(mark)
    elif mark:
        token = f" {token}"
    letters = token.removeprefix(" ")
    return token if letters.isascii() and letters.isalpha() else None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", ["llama2", "metaspace", "gemma", "xglm"])
@pytest.mark.parametrize("kind", ["byte-level", "WordPiece"])
def test_a_sentencepiece_source_with_a_helper_of_another_kind(
    models: Models, tmp_path: Path, kind: str, shape: str, method: str
) -> None:
    """Byte fallback to byte-level, and to WordPiece: tokens meet by what they spell."""
    source = tokenizers.make(shape)
    roles = {"bos_token": "[CLS]", "eos_token": "[SEP]"}
    target = tokenizers.make("gpt2") if kind == "byte-level" else tokenizers.make("bert", **roles)
    family = save_family("llama-untied", tmp_path / "source", len(source))
    source.save_pretrained(family.folder)
    helper = make_helper(tmp_path / "untied", "llama-untied", target)
    clp_transfer.transfer(family.folder, helper, method).save(tmp_path / "out", pad_to_multiple_of=8)
    old = {
        text: index for token, index in vocabulary(family.folder).items() if (text := spelled(token, "SentencePiece"))
    }
    new = {text: index for token, index in vocabulary(helper).items() if (text := spelled(token, kind))}
    common = sorted(old.keys() & new.keys())
    assert len(common) > 30 and " a" in common
    ids = [old[text] for text in common], [new[text] for text in common]
    check_copied(family, tmp_path / "out", *ids)
    check_settings(family.folder, helper, tmp_path / "out", rows=len(target) + -len(target) % 8)
    rows = vocabulary(family.folder), vocabulary(tmp_path / "out")
    before, after = tensors(family.folder), tensors(tmp_path / "out")
    for role in ("eos_token", "bos_token")[: len({target.eos_token, target.bos_token})]:
        for table in family.tables:
            there = before[table][rows[0][getattr(source, role)]]
            assert torch.equal(after[table][rows[1][getattr(target, role)]], there), role
    if kind == "byte-level" and shape != "xglm":
        fallback = before[family.input][[rows[0][f"<0x{byte:02X}>"] for byte in (0xC3, 0xE4, 0xF0)]]
        assert torch.equal(after[family.input][[rows[1][token] for token in "Ãäð"]], fallback)
    load(tmp_path / "out")
