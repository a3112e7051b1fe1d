"""What must hold of a model that was made from another, checked with safetensors and transformers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor

from tiny.families import Family


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every stored tensor, read by safetensors itself."""
    return load_file(folder / "model.safetensors")


def vocabulary(folder: Path) -> dict[str, int]:
    return AutoTokenizer.from_pretrained(folder).get_vocab()


def load(folder: Path) -> Any:
    """The model as a user loads it, with every tensor in its place."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


def check_copied(family: Family, target: Path, old: list[int], new: list[int]) -> None:
    """Rows of shared tokens and the whole body are bit for bit the source's; everything is finite and of its dtype."""
    before, after = tensors(family.folder), tensors(target)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        made = after[name]
        assert made.dtype == tensor.dtype and torch.isfinite(made).all(), name
        if name in family.tables:
            assert torch.equal(made[new], tensor[old]), name
        else:
            assert torch.equal(made, tensor), name


def check_settings(source: Path, helper: Path, target: Path, rows: int) -> None:
    """Configs and generation settings name the target's ids and rows, and say for the rest what the source's say.

    The tokenizer cuts text as the helper's does, whatever the source's family would do.
    """
    tokenizer = AutoTokenizer.from_pretrained(target)
    difficult = "Das Haus (grün) ist 12345 m hoch, Karl's DON'T  \n\n istSchön!!!"
    assert tokenizer(difficult)["input_ids"] == AutoTokenizer.from_pretrained(helper)(difficult)["input_ids"]
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    old, new, generation = (
        json.loads(path.read_text())
        for path in (source / "config.json", target / "config.json", target / "generation_config.json")
    )
    assert {name: new[name] for name in ids} == {name: generation[name] for name in ids} == ids
    assert new["vocab_size"] == rows
    assert {k: v for k, v in new.items() if k not in {*ids, "vocab_size"}} == {
        k: v for k, v in old.items() if k not in {*ids, "vocab_size"}
    }


class Insist(LogitsProcessor):
    """Makes a token certain at one place."""

    def __init__(self, token: int, place: int) -> None:
        self.token, self.place = token, place

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if input_ids.shape[1] == self.place:
            scores[:, self.token] = torch.inf
        else:
            scores[:, :3] = -torch.inf  # no special token elsewhere
        return scores


def check_running(source: Path, target: Path, old: list[int], new: list[int]) -> None:
    """On shared tokens the two models say the same of shared tokens; generation ends at the target's end of text."""
    before, after, tokenizer = load(source), load(target), AutoTokenizer.from_pretrained(target)
    draw = torch.randint(len(old), (2, 12), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = before(torch.tensor(old)[draw]).logits[..., old]
        logits = after(torch.tensor(new)[draw]).logits
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits[..., new], expected)
    inputs = tokenizer("Das Haus ist groß", return_tensors="pt", return_token_type_ids=False)
    start = inputs["input_ids"].shape[1]
    for token, length in ((tokenizer.eos_token_id, 3), (tokenizer.convert_tokens_to_ids("Baum"[0]), 8)):
        insist = [Insist(token, start + 2)]
        made = after.generate(**inputs, max_new_tokens=8, do_sample=False, logits_processor=insist)
        assert made.shape[1] == start + length
