"""What a user can get wrong: each names the file and the value, says what to do, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tokenizers
from tiny.families import quieten, save_family
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

import clp_transfer
from clp_transfer.clp.job import MethodConfig
from clp_transfer.errors import UserError

quieten()
EMBEDDING = "model.embed_tokens.weight"


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def variant(
    folder: Path, original: Path, change: Callable[[dict[str, torch.Tensor]], Any] | None = None, **config
) -> Path:
    """A copy of a model with changed tensors and other values in its config."""
    shutil.copytree(original, folder)
    if change is not None:
        weights = tensors(original)
        weights = change(weights) or weights
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | config))
    return folder


def renamed(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda weights: {name.replace(old, new): tensor for name, tensor in weights.items()}


def says(error: pytest.ExceptionInfo[UserError], *parts: object) -> None:
    """The message has all of these, and a remedy."""
    for part in parts:
        assert str(part) in error.value.problem, (part, str(error.value))
    assert error.value.remedy


# --- models that are not whole, or do not fit


def test_a_source_without_input_embedding(world, tmp_path: Path) -> None:
    """Of a family that is known as of one that is not, the message lists the tables that there are."""
    for name, family in (("known", {}), ("unknown", {"model_type": "mystery"})):
        source = variant(tmp_path / name, world.source, renamed("embed_tokens", "rope_table"), **family)
        with pytest.raises(UserError, match="no input embedding found") as error:
            clp_transfer.transfer(source, world.helper)
        says(error, source, "model.rope_table.weight [330, 32]", "mlp.up_proj.weight [64, 32]")
        assert "embed_tokens, wte" in error.value.remedy


@pytest.mark.parametrize("model", ["source", "untied"])
def test_an_unknown_family_works_if_the_table_is_found(world, tmp_path: Path, model: str) -> None:
    """By its usual name, as good as the family that transformers knows."""
    source = variant(
        tmp_path / "source", getattr(world, model), renamed("model.embed_tokens", "trunk.wte"), model_type="mystery",
        tie_word_embeddings=model == "source",
    )  # fmt: skip
    clp_transfer.transfer(source, world.helper).save(tmp_path / "out")
    clp_transfer.transfer(getattr(world, model), world.helper).save(tmp_path / "known")
    found = renamed("trunk.wte", "model.embed_tokens")(tensors(tmp_path / "out"))
    known = tensors(tmp_path / "known")
    assert found.keys() == known.keys() and all(torch.equal(found[name], known[name]) for name in known)
    assert json.loads((tmp_path / "out/config.json").read_text())["model_type"] == "mystery"


@pytest.mark.parametrize("role", ["source", "helper"])
def test_tokenizer_and_rows_disagree(world, tmp_path: Path, role: str) -> None:
    models = {"source": world.source, "helper": world.helper}
    models[role] = variant(tmp_path / "fewer", models[role])
    tokenizer = AutoTokenizer.from_pretrained(models[role])
    rows = len(tokenizer)
    tokenizer.add_tokens(["neu1", "neu2"])
    tokenizer.save_pretrained(models[role])
    with pytest.raises(UserError) as error:
        clp_transfer.transfer(models["source"], models["helper"])
    says(error, models[role] / "model.safetensors", EMBEDDING, f"{rows} rows", f"ids up to {rows + 1}")
    assert "its own tokenizer" in error.value.remedy


@pytest.mark.parametrize("role", ["source", "helper"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_rows(world, helper: Path, tmp_path: Path, role: str, value: float) -> None:
    """In the input or in the head, in the source or in the helper."""
    for name in (EMBEDDING, "lm_head.weight"):

        def damage(weights: dict[str, torch.Tensor], name: str = name) -> None:
            weights[name][[7, 9], 3] = value

        models = {"source": world.untied, "helper": helper}
        models[role] = variant(tmp_path / name, models[role], damage)
        with pytest.raises(UserError) as error:
            clp_transfer.transfer(models["source"], models["helper"])
        says(error, models[role] / "model.safetensors", name, "2 rows with NaN or infinity", "7, 9")


@pytest.fixture
def helper(world, tmp_path: Path) -> Path:
    """A helper with a head of its own."""
    tokenizer = AutoTokenizer.from_pretrained(world.helper)
    save_family("llama-untied", tmp_path / "helper", len(tokenizer), hidden_size=8)
    tokenizer.save_pretrained(tmp_path / "helper")
    return tmp_path / "helper"


def with_gap(folder: Path, original: Path) -> Path:
    """A copy of a model in which the last token's id is 5 higher, and so are the rows."""

    def grow(weights: dict[str, torch.Tensor]) -> None:
        table = weights[EMBEDDING]
        weights[EMBEDDING] = torch.cat([table[:-1], torch.full((5, table.shape[1]), 0.5), table[-1:]])

    rows = len(tensors(original)[EMBEDDING])
    variant(folder, original, grow, vocab_size=rows + 5)
    settings = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = settings["model"]["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] += 5
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("method", ["clp", "ridge", "fvt", "random"])
def test_gaps_between_ids(world, tmp_path: Path, method: str) -> None:
    """Rows of ids that no token has: the mean row in the target, out of account in the source."""
    source, helper = with_gap(tmp_path / "source", world.source), with_gap(tmp_path / "helper", world.helper)
    without = clp_transfer.transfer(world.source, world.helper, method).input
    result = clp_transfer.transfer(world.source, helper, method)
    result.save(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.vocab_size == len(without) + 5 == len(result.input)
    used = [*range(len(without) - 1), len(without) + 4]
    torch.testing.assert_close(result.input[used], without)
    gaps = result.input[len(without) - 1 : -1]
    torch.testing.assert_close(gaps, without.mean(dim=0).expand(5, -1))
    if method in ("clp", "fvt"):  # the others draw or fit with the source's moments, gaps among them
        torch.testing.assert_close(clp_transfer.transfer(source, world.helper, method).input, without)
    clp_transfer.transfer(source, source, method).save(tmp_path / "same")
    assert (tmp_path / "same/model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()


def test_helpers_with_another_tokenizer(world, tmp_path: Path) -> None:
    """Also one that has only two ids the other way round."""
    swapped = variant(tmp_path / "swapped", world.helper)
    settings = json.loads((swapped / "tokenizer.json").read_text())
    vocabulary = settings["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (swapped / "tokenizer.json").write_text(json.dumps(settings))
    for arguments in (
        {"helper": [world.helper, world.source]},
        {"helper": world.helper, "tokenizer": world.source_tokenizer},
        {"helper": [world.helper, swapped]},
    ):
        with pytest.raises(UserError, match="does not have the target's tokenizer") as error:
            clp_transfer.transfer(world.source, **({"helper": None} | arguments), method="clp")
        says(error, "the helper ", str(world.root))


def test_no_vocabulary_in_common(world, tmp_path: Path) -> None:
    chinese = tokenizers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(
            tokenizers.models.WordLevel({"▁中": 0, "▁文": 1, "▁字": 2}, unk_token="▁中")
        )
    )
    save_family("llama-tied", tmp_path / "helper", 3, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    chinese.save_pretrained(tmp_path / "helper")
    with pytest.raises(UserError, match="share no token at all") as error:
        clp_transfer.transfer(world.source, tmp_path / "helper")
    says(error, "the source (byte-level)", "the target (SentencePiece)")


@pytest.mark.parametrize("slow", ["source", "helper", "both"])
def test_a_tokenizer_written_in_python(world, tmp_path: Path, slow: str) -> None:
    """A slow tokenizer serves on either side, and the model that is made has it."""
    fast = tokenizers.make("bert")
    folder = tmp_path / "slow"
    save_family("llama-untied", folder, len(fast))
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(fast.get_vocab(), key=fast.get_vocab().get)))
    BertTokenizerLegacy(str(tmp_path / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    assert not AutoTokenizer.from_pretrained(folder).is_fast
    models = {"source": folder, "both": folder}.get(slow, world.source), world.helper if slow == "source" else folder
    for method in ("clp", "fvt"):
        result = clp_transfer.transfer(*models, method)
        result.save(tmp_path / method)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / method)
        assert tokenizer.get_vocab() == result.tokenizer.get_vocab() and tokenizer.is_fast == (slow == "source")
        model = AutoModelForCausalLM.from_pretrained(tmp_path / method)
        assert torch.isfinite(model(torch.arange(50)[None]).logits).all()
    assert result.report["overlap"]["shared"] > 40


# --- what is asked for


@pytest.mark.parametrize(
    ("method", "options", "problem", "remedy"),
    [
        ("magic", {}, "method=magic", "clp-topk, ridge"),
        ("scratch", {}, "method=scratch keeps nothing of the source", "clp.py method=scratch"),
        ("clp", {"topk": 3, "wait": 1}, "no method option is called topk, wait", "top_k"),
        ("clp", {"name": "ridge"}, "no method option is called name", "weighting"),
        ("clp", {"weighting": "typo"}, "method.weighting=typo", "plain or softmax or sparsemax"),
        ("clp", {"negative": "drop"}, "method.negative=drop", "keep or cut"),
        ("clp", {"norms": "typo"}, "method.norms=typo", "keep or source"),
        ("clp", {"top_k": 0}, "method.top_k=0", "1 or more"),
        ("clp", {"top_k": "3"}, "method.top_k='3'", "int or null"),
        ("clp", {"centre": 1}, "method.centre=1", "bool"),
        ("clp-topk", {"temperature": 0.0}, "method.temperature=0.0", "more than 0"),
        ("ridge", {"ridge": -1.0}, "method.ridge=-1.0", "more than 0"),
        ("ridge", {"features": ["typo"]}, "method.features=['typo']", "helper, pieces"),
        ("ridge", {"frequency_power": -1.0}, "method.frequency_power=-1.0", "0 or more"),
        ("ridge", {"frequency_power": 0.5}, "method=ridge needs target-language text for its counts", "text="),
        ("omp", {"atoms": 0}, "method.atoms=0", "1 or more"),
        ("blend", {"share": 1.5}, "method.share=1.5", "from 0 to 1"),
        ("gaussian", {"shrink": -0.1}, "method.shrink=-0.1", "0 or more"),
        ("calibrate", {}, "method=calibrate needs target-language text", "text="),
        ("focus", {}, "method=focus needs target-language text", "text="),
        ("calibrate", {"start": "calibrate"}, "method.start=calibrate", "ridge"),
        ("calibrate", {"window": 0}, "method.window=0", "1 or more"),
        ("auto", {"folds": 1}, "method.folds=1", "2 or more"),
        ("auto", {"candidates": ["clp", "auto"]}, "method.candidates=auto", "ridge"),
        ("auto", {"candidates": ["calibrate"], "start": "auto"}, "method.candidates=calibrate", "ridge"),
        ("auto", {"candidates": []}, "method.candidates=[]", "fvt, mean"),
        ("wechsel", {}, "method=wechsel needs", "tab"),
    ],
)
def test_methods_and_options(world, method: str, options: dict[str, Any], problem: str, remedy: str) -> None:
    """Also where they reach the library inside a MethodConfig, as from the command line."""
    for chosen, given in ((method, options), (MethodConfig(method), options)):
        with pytest.raises(UserError) as error:
            clp_transfer.transfer(world.source, world.helper, chosen, **given)
        says(error, problem)
        assert remedy in error.value.remedy


def test_what_is_missing(world, tmp_path: Path) -> None:
    """A helper for clp, a tokenizer for fvt, a text that is not there, a device, a model."""
    target = {"tokenizer": world.target_tokenizer}
    for arguments, problem, remedy in (
        ((world.source, None, "clp", target), "method=clp needs a helper", "helper="),
        ((world.source, [], "ridge", target), "method=ridge needs a helper", "helper="),
        ((world.source, None, "fvt", {}), "neither a helper nor a tokenizer", "tokenizer="),
        ((world.source, world.helper, "focus", {"text": tmp_path / "none.txt"}), "none.txt", ".jsonl"),
        ((world.source, world.helper, "auto", {"validation": tmp_path / "none"}), "none", ".jsonl"),
        ((world.source, world.helper, "clp", {"device": "abacus"}), "device=abacus", "auto"),
        ((tmp_path, world.helper, "clp", {}), f"{tmp_path} is not a model folder", "save_pretrained"),
        (("no/such/model", world.helper, "clp", {}), "there is no folder or file no/such/model", "hub id"),
        ((world.source, "no/such/model", "clp", {}), "no/such/model", "hub id"),
    ):
        *places, options = arguments
        with pytest.raises(UserError) as error:
            clp_transfer.transfer(*places, **options)
        says(error, problem)
        assert remedy in error.value.remedy


def test_a_models_own_code_is_not_run(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only with trust_remote_code; without it the table is found by its name."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "modules")])
    source = variant(
        tmp_path / "source", world.source, model_type="mystery",
        auto_map={"AutoConfig": "code.CodeConfig", "AutoModelForCausalLM": "code.CodeModel"},
    )  # fmt: skip
    marker = tmp_path / "it ran"
    (source / "code.py").write_text(
        f"open({str(marker)!r}, 'w').close()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class CodeConfig(LlamaConfig):\n    model_type = 'mystery'\n"
        "class CodeModel(LlamaForCausalLM):\n    config_class = CodeConfig\n"
    )
    settings = json.loads((source / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": [None, "code.CodeTokenizer"]}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    result = clp_transfer.transfer(source, world.helper)
    result.save(tmp_path / "out")
    assert not marker.exists()
    assert (tmp_path / "out/code.py").is_file()
    assert torch.equal(result.input, clp_transfer.transfer(world.source, world.helper).input)
    settings.pop("auto_map")
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    trusted = clp_transfer.transfer(source, world.helper, trust_remote_code=True)
    assert marker.exists() and torch.equal(trusted.input, result.input)
