"""Auto in worlds made so that the best method is known; what it hides must stay hidden."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny.families import quieten, save_family
from tiny.tokenizers import END, byte_level
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers import PreTrainedTokenizerFast as Tokenizer

import clp_transfer
from clp_transfer.clp import methods
from clp_transfer.clp.auto import choose, held_out
from clp_transfer.clp.job import AUTO, MethodConfig
from clp_transfer.clp.methods.problem import Problem, Solution
from clp_transfer.clp.models import Ingredients
from clp_transfer.errors import UserError

LETTERS = "abcdefghij"
INPUT = "model.embed_tokens.weight"
Make = Callable[..., Ingredients]


@dataclass(frozen=True)
class Lab:
    """Two languages with half of their words in common, and the folders of models with drawn weights."""

    root: Path
    source: Tokenizer
    target: Tokenizer
    documents: list[str]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    quieten()
    root = tmp_path_factory.mktemp("lab")
    draw = random.Random(1)
    words = ["".join(draw.choices(LETTERS, k=draw.randint(3, 7))) for _ in range(180)]
    reads = [[" ".join(draw.choices(some, k=8)) for _ in range(150)] for some in (words[:120], words[60:])]
    tokenizers = [Tokenizer(tokenizer_object=byte_level(520, texts=read), **END) for read in reads]
    for name, tokenizer in zip(("llama-tied", "llama-untied", "helper"), [tokenizers[0], *tokenizers], strict=True):
        family, width = ("llama-tied", 8) if name == "helper" else (name, 16)
        ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
        save_family(family, root / name, len(tokenizer), hidden_size=width, **ids)
        tokenizer.save_pretrained(root / name)
    (root / "validation.txt").write_text("\n".join(reads[1][:40]))
    return Lab(root, *tokenizers, reads[1])


@pytest.fixture
def make(lab: Lab, tmp_path: Path) -> Make:
    """Ingredients whose source rows are what the world says, with a little noise.

    `linear`: a linear map of the helper's. `pieces`: the mean of their letters', the other bytes' being near zero.
    """

    def build(world: str, family: str = "llama-tied", helper: bool = True) -> Ingredients:
        draw = torch.Generator().manual_seed(0)
        names = lab.source.convert_ids_to_tokens(range(len(lab.source)))
        if world == "linear":
            rows = load_file(lab.root / "helper/model.safetensors")[INPUT]
            rows = 10 * rows @ torch.randn(8, 16, generator=draw)
            target = lab.target.get_vocab()
            table = torch.stack([rows[target[n]] if n in target else torch.zeros(16) for n in names])
        else:
            letters = {letter: 3 * torch.randn(16, generator=draw) for letter in LETTERS}
            letters["Ġ"] = torch.zeros(16)
            spelled = [[letters[c] for c in name if c in letters] for name in names]
            table = torch.stack([torch.stack(found).mean(dim=0) if found else torch.zeros(16) for found in spelled])
        folder = tmp_path / world
        shutil.copytree(lab.root / family, folder)
        tensors = load_file(folder / "model.safetensors")
        for name in {INPUT, "lm_head.weight"} & set(tensors):
            tensors[name] = table + 0.02 * torch.randn(table.shape, generator=draw)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return Ingredients.open(folder, lab.root / "helper" if helper else None, lab.root / "helper")

    return build


def auto(**options) -> MethodConfig:
    return MethodConfig(AUTO, **options)


@pytest.mark.parametrize("family", ["llama-tied", "llama-untied"])
@pytest.mark.parametrize(
    ("world", "best", "useless"),
    [("linear", "ridge", ["fvt", "mean"]), ("pieces", "fvt", ["clp", "clp-topk", "ridge", "mean"])],
)
def test_the_method_that_fits_the_world_is_chosen(
    make: Make, world: str, best: str, useless: list[str], family: str
) -> None:
    ingredients = make(world, family)
    assert sum(len(key.text) > 1 for key in ingredients.keys(ingredients.known)) > 50
    chosen, why, _ = choose(ingredients, auto(), seed=1)
    scores = why["scores"]
    assert chosen.name == why["chosen"] == best and why["why"].startswith(best)
    assert scores[best]["error"] == min(score["error"] for score in scores.values())
    assert scores[best]["error"] < 0.4 < 0.7 < min(scores[name]["error"] for name in useless)
    assert scores[best]["cosine"] > 0.1 + max(scores[name]["cosine"] for name in useless)
    assert scores["mean"]["error"] == pytest.approx(1, abs=1e-5)
    assert scores["mean"]["cosine"] == pytest.approx(0, abs=0.05)
    assert all(score["bits_per_byte"] is None for score in scores.values()) and why["skipped"] == {}


def fitted(x: np.ndarray, y: np.ndarray, share: float, new: np.ndarray) -> np.ndarray:
    """Ridge by the normal equations."""
    centred = x - x.mean(axis=0)
    gram = centred.T @ centred
    penalty = share * np.trace(gram) / len(gram) * np.eye(len(gram))
    return y.mean(axis=0) + (new - x.mean(axis=0)) @ np.linalg.solve(gram + penalty, centred.T @ (y - y.mean(axis=0)))


def test_scores_by_hand(make: Make, lab: Lab) -> None:
    """Fold by fold in NumPy, averaged over the input and the head."""
    ingredients = make("linear", "llama-untied")
    (score,) = held_out(ingredients, [MethodConfig("ridge", ridge=0.1, folds=4)], seed=5)
    known = ingredients.known
    x = load_file(lab.root / "helper/model.safetensors")[INPUT].double().numpy()[known]
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(5))
    errors, cosines = [], []
    tensors = load_file(ingredients.source.folder / "model.safetensors")
    for name in (INPUT, "lm_head.weight"):
        y = tensors[name].double().numpy()[[ingredients.overlap.shared[index] for index in known]]
        off, spread, near = 0.0, 0.0, []
        for hidden in np.array_split(order.numpy(), 4):
            kept = np.setdiff1d(np.arange(len(known)), hidden)
            centre = y[kept].mean(axis=0)
            made, truth = fitted(x[kept], y[kept], 0.1, x[hidden]) - centre, y[hidden] - centre
            off, spread = off + ((made - truth) ** 2).sum(), spread + (truth**2).sum()
            near += list((made * truth).sum(axis=1) / np.linalg.norm(made, axis=1) / np.linalg.norm(truth, axis=1))
        errors.append(off / spread)
        cosines.append(np.mean(near))
    assert score.error == pytest.approx(np.mean(errors), rel=1e-4)
    assert score.cosine == pytest.approx(np.mean(cosines), rel=1e-4)


def watching(found: list[Problem]) -> Callable[[Problem], Solution]:
    """A method that remembers what it was given, and answers with rows that it was given, where it can."""

    def solve(problem: Problem) -> Solution:
        found.append(problem)
        memory = dict(zip(problem.known.keys, problem.source, strict=True))
        mean = problem.source.mean(dim=0)
        return Solution(torch.stack([memory.get(key, mean) for key in problem.wanted.keys]))

    return solve


def test_hidden_rows_are_never_seen(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every known token is hidden in one fold; then neither its row nor its id is known, or among its pieces."""
    found: list[Problem] = []
    monkeypatch.setitem(methods.METHODS, "mean", watching(found))
    ingredients = make("pieces")
    (score,) = held_out(ingredients, [MethodConfig("mean", folds=4)], seed=1)
    assert score.error == pytest.approx(1, abs=1e-5), "memory is of no use"
    keys = ingredients.keys(ingredients.known)
    hidden = [key for problem in found for key in problem.wanted.keys]
    assert len(found) == 4 and sorted(hidden) == sorted(keys)
    own = {key: ingredients.overlap.shared[i] for key, i in zip(keys, ingredients.known, strict=True)}
    spelled = {index: key.text for index, key in ingredients.source.vocabulary.keys.items()}
    for problem in found:
        assert len(problem.known) + len(problem.wanted) == len(keys)
        sizes = {len(problem.known), len(problem.source), len(problem.source_ids), len(problem.known.pieces)}
        assert sizes == {len(problem.known)}
        assert not {own[key] for key in problem.wanted.keys} & set(problem.source_ids.tolist())
        assert problem.source_ids.tolist() == [own[key] for key in problem.known.keys]
        table = problem.table.rows(problem.source_ids)
        assert torch.equal(table, problem.source)
        for side in (problem.wanted, problem.known):
            for key, pieces in zip(side.keys, side.pieces, strict=True):
                assert own[key] not in pieces
                assert not pieces or (b"".join(spelled[i] for i in pieces) == key.text and len(pieces) > 1)
    assert any(problem.wanted.pieces for problem in found)


def test_seeds(make: Make) -> None:
    """The folds and all draws come from the seed."""
    ingredients = make("pieces")
    options = auto(candidates=["random", "ridge", "fvt"])
    one, again, other = (choose(ingredients, options, seed)[1]["scores"] for seed in (1, 1, 2))
    assert one == again
    assert all(one[name]["error"] != other[name]["error"] for name in one)


def bits_per_byte(folder: Path, documents: list[str], window: int) -> float:
    """The saved model's loss on the first 20 kB, each window after the one token before it."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids: list[int] = [0]
    size = 0
    for document in documents:
        ids += [*tokenizer(document)["input_ids"], 0]
        size += len(document.encode())
        if size >= 20_000:
            break
    nats = 0.0
    for start in range(0, len(ids) - 1, window):
        part = torch.tensor(ids[start : start + window + 1])
        with torch.no_grad():
            logits = model(part[None, :-1]).logits[0].double()
        nats -= float(logits.log_softmax(dim=1)[torch.arange(len(part) - 1), part[1:]].sum())
    return nats / size / math.log(2)


@pytest.mark.parametrize("family", ["llama-tied", "llama-untied"])
def test_with_a_validation_text_the_fewest_bits_per_byte_win(make: Make, lab: Lab, tmp_path: Path, family: str) -> None:
    """Measured anew on the saved models; the source has 64 positions, so that the windows are as short."""
    ingredients = make("pieces", family)
    source, helper = ingredients.source.folder, lab.root / "helper"
    names = ["clp", "mean", "random", "fvt"]
    validation = lab.root / "validation.txt"
    result = clp_transfer.transfer(source, helper, AUTO, validation=validation, candidates=names)
    told = result.report["auto"]
    expected = {}
    for name in names:
        clp_transfer.transfer(source, helper, name).save(tmp_path / name)
        expected[name] = bits_per_byte(tmp_path / name, lab.documents[:40], window=64)
    assert {name: told["scores"][name]["bits_per_byte"] for name in names} == pytest.approx(expected, rel=1e-4)
    best = min(expected, key=lambda name: expected[name])
    assert told["chosen"] == best and f"{expected[best]:.3f}" in told["why"]
    assert torch.equal(result.input, load_file(tmp_path / best / "model.safetensors")[INPUT])
    assert all(told["scores"][name]["error"] is not None for name in names)


def filled(value: float) -> Callable[[Problem], Solution]:
    """A method whose rows hold nothing but this value."""
    return lambda problem: Solution(problem.source.new_full((len(problem.wanted), problem.source.shape[1]), value))


def test_rows_that_make_the_model_overflow_are_not_measured(
    make: Make, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of the candidates, so that it would also win a tie."""
    source = make("pieces").source.folder
    monkeypatch.setitem(methods.METHODS, "clp", filled(1e38))
    options = {"validation": lab.root / "validation.txt", "candidates": ["clp", "random"]}
    told = clp_transfer.transfer(source, lab.root / "helper", AUTO, **options).report["auto"]
    assert told["chosen"] == "random"
    assert told["scores"]["clp"]["bits_per_byte"] is None and told["scores"]["random"]["bits_per_byte"] > 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_rows_that_are_not_finite_do_not_win(make: Make, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """A transfer would put the overlap's mean in their place, so that is what is scored."""
    monkeypatch.setitem(methods.METHODS, "clp", filled(value))
    chosen, why, _ = choose(make("pieces"), auto(candidates=["clp", "fvt"]), seed=1)
    assert chosen.name == "fvt" and why["scores"]["clp"]["error"] == pytest.approx(1, abs=1e-4)


def test_norms_are_scored_as_they_will_be(make: Make) -> None:
    ingredients = make("pieces")
    plain, scaled = (MethodConfig("fvt", norms=norms) for norms in ("keep", "source"))
    one, other = (held_out(ingredients, [method], seed=1)[0] for method in (plain, scaled))
    assert one.error != pytest.approx(other.error, rel=1e-2)


def test_what_cannot_run_is_left_out_and_told(make: Make, lab: Lab) -> None:
    bare = make("pieces", helper=False)
    chosen, why, _ = choose(bare, auto(candidates=["clp", "ridge", "focus", "calibrate", "mean", "fvt"]), seed=1)
    assert chosen.name == "fvt" and set(why["scores"]) == {"mean", "fvt"}
    assert set(why["skipped"]) == {"clp", "ridge", "focus", "calibrate"}
    assert "helper" in why["skipped"]["clp"] and "text" in why["skipped"]["focus"]
    # With pieces alone as features ridge needs no helper.
    chosen, why, _ = choose(bare, auto(candidates=["ridge", "mean"], features=["pieces"]), seed=1)
    assert chosen.name == "ridge" and why["skipped"] == {}
    with pytest.raises(UserError, match="none can run"):
        choose(bare, auto(candidates=["clp", "ridge"]), seed=1)


def test_options_reach_the_candidates(make: Make) -> None:
    """And the report names them: the model must be what the method alone would have made."""
    ingredients = make("linear")
    source, helper = ingredients.source.folder, ingredients.helpers[0].folder
    result = clp_transfer.transfer(source, helper, AUTO, ridge=0.37, seed=4)
    alone = clp_transfer.transfer(source, helper, "ridge", ridge=0.37, seed=4)
    assert result.report["auto"]["chosen"] == "ridge"
    assert result.report["diagnostics"]["penalty"] == 0.37
    assert torch.equal(result.input, alone.input)


def test_folds(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than there are tokens hide one at a time; one would hide all."""
    found: list[Problem] = []
    monkeypatch.setitem(methods.METHODS, "mean", watching(found))
    ingredients = make("pieces")
    held_out(ingredients, [MethodConfig("mean", folds=10**4)], seed=1)
    assert len(found) == len(ingredients.known) and all(len(problem.wanted) == 1 for problem in found)
    with pytest.raises(UserError, match="in 1 folds"):
        choose(ingredients, auto(folds=1), seed=1)
