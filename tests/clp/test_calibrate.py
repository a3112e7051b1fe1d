"""Calibrate on tiny models: what may change, what may not, and that the body sees the tables that are saved."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny.families import FAMILIES, quieten, save_family
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

import clp_transfer
from clp_transfer.clp import body, calibrate, methods
from clp_transfer.clp.job import MethodConfig, TransferJob
from clp_transfer.clp.methods.problem import Solution
from clp_transfer.errors import UserError
from clp_transfer.packed import PackedCorpus

WINDOW = 32
OPTIONS = {"tokens": 40 * 4 * WINDOW, "window": WINDOW, "rate": 0.3}
# The ridge that it starts from, unless told otherwise.
START = {"features": ["helper", "pieces"], "frequency_power": 0.5}
# llama, gpt2, scaled embeddings, soft caps, projected embeddings, a head with a bias, and rows beyond the tokenizer.
KINDS = ("llama-tied", "llama-untied", "gpt2", "gemma2", "gemma3", "opt-projected", "phi", "bloom")


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body in float32, wherever this runs."""
    monkeypatch.setattr(body, "fast_bfloat16_processor", lambda: False)


@pytest.fixture(scope="module")
def family(world, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A family's tiny model with the world's source tokenizer."""
    quieten()
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            rows = 345 if name == "bloom" else 330
            save_family(name, made[name], rows, bos_token_id=0, eos_token_id=0, pad_token_id=None)
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(world.source_tokenizer / file, made[name])
        return made[name]

    return make


def transferred(world, source: Path, method: str = "calibrate", **options: Any) -> clp_transfer.TransferResult:
    settings = (OPTIONS | {"text": world.train_pack} if method == "calibrate" else {}) | options
    return clp_transfer.transfer(source, world.helper, method, **settings)


def loss(folder: Path, batch: torch.Tensor) -> float:
    """Nats per token of a saved model, by transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(batch[:, :-1]).logits
    return float(cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()))


def windows(ids: np.ndarray) -> torch.Tensor:
    """The whole text in windows."""
    count = (len(ids) - 1) // WINDOW
    return torch.stack(
        [torch.from_numpy(ids[i * WINDOW : (i + 1) * WINDOW + 1].astype(np.int64)) for i in range(count)]
    )


@pytest.mark.parametrize("name", KINDS)
def test_only_new_rows_change_and_the_loss_falls(
    world, family: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    """Measured on the saved models; the first loss is the saved start's, so its body saw the very same tables."""
    source = family(name)
    text = world.train_pack
    start, result = transferred(world, source, "ridge", text=text, **START), transferred(world, source, seed=3)
    for one, folder in ((start, "start"), (result, "result")):
        one.save(tmp_path / folder)
    before, after = (load_file(tmp_path / folder / "model.safetensors") for folder in ("start", "result"))
    old, new = (AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (source, tmp_path / "result"))
    missing = torch.tensor(sorted(index for token, index in new.items() if token not in old))
    shared = torch.tensor(sorted(index for token, index in new.items() if token in old))
    _, _, table, head, bias = FAMILIES[name]
    for tensor in before:
        if tensor in (table, head):
            assert torch.equal(after[tensor][shared], before[tensor][shared])
            assert (after[tensor][missing] != before[tensor][missing]).any(dim=1).all(), "rare tokens move too"
            assert torch.isfinite(after[tensor]).all() and len(after[tensor]) == len(new)
        else:
            assert torch.equal(after[tensor], before[tensor]), tensor
    assert bias is None or len(after[bias]) == len(new)

    ids = PackedCorpus(world.train_pack).tokens
    places = np.random.default_rng(3).integers(0, len(ids) - WINDOW, size=4)
    first = torch.stack([torch.from_numpy(ids[p : p + WINDOW + 1].astype(np.int64)) for p in places])
    diagnostics = result.report["diagnostics"]
    assert diagnostics["loss_first"] == pytest.approx(loss(tmp_path / "start", first), rel=1e-5)
    losses = [loss(tmp_path / folder, windows(ids)) for folder in ("start", "result")]
    assert losses[1] < losses[0] - 0.1
    assert diagnostics["loss_last"] == pytest.approx(losses[1], abs=0.5) and diagnostics["steps"] == 40
    assert diagnostics["penalty"] == start.report["diagnostics"]["penalty"]
    prefix = {table: "", head: "head_"}
    for tensor in {table, head} - {None}:
        norm = float(after[tensor][missing].norm(dim=1).mean())
        assert result.report["norms"][f"{prefix[tensor]}new_mean"] == pytest.approx(norm, rel=1e-5)


def test_padding_in_the_source_is_no_padding_in_the_target(world, tmp_path: Path) -> None:
    """A pad id beyond the target's rows (Qwen's is 151,643) stops nothing; one within them is trained like others."""
    quieten()
    results = []
    for pad in (399, 0, None):
        folder = tmp_path / f"source-{pad}"
        save_family("llama-tied", folder, 400, bos_token_id=0, eos_token_id=0, pad_token_id=pad)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(world.source_tokenizer / file, folder)
        results.append(transferred(world, folder, start="mean"))
    # The model draws its padding row as zeros: nothing else may differ from the model without one.
    losses = [result.report["diagnostics"]["loss_last"] for result in results]
    assert losses[0] == losses[2] and torch.equal(results[0].input, results[2].input)
    names = clp_transfer.transfer(tmp_path / "source-399", world.helper, "auto", validation=world.validation_pack)
    assert names.report["auto"]["scores"]["mean"]["bits_per_byte"] > 0


def test_seeds(world) -> None:
    one, again, other = (transferred(world, world.untied, seed=seed, tokens=1024) for seed in (1, 1, 2))
    assert torch.equal(one.input, again.input) and torch.equal(one.head, again.head)
    assert not torch.equal(one.input, other.input)


def test_it_starts_from_the_method_that_is_named(world) -> None:
    """A rate of nearly nothing leaves its rows where they were."""
    start = transferred(world, world.untied, "fvt")
    result = transferred(world, world.untied, start="fvt", rate=1e-9, tokens=128)
    torch.testing.assert_close(result.input, start.input, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(result.head, start.head, rtol=1e-5, atol=1e-7)
    assert result.report["method"] == "calibrate" and result.report["options"]["start"] == "fvt"


def test_auto_chooses_its_start_by_the_validation_text(world, tmp_path: Path) -> None:
    """As it does alone; what is trained from there is calibrate's, and the plan knows the text that chose."""
    options = {"candidates": ["mean", "fvt"], "validation": world.validation_pack}
    alone = clp_transfer.transfer(world.source, world.helper, "auto", **options)
    result = transferred(world, world.source, start="auto", tokens=128, **options)
    scores = result.report["auto"]["scores"]
    assert scores == alone.report["auto"]["scores"]
    assert all(score["bits_per_byte"] > 0 for score in scores.values())
    assert set(result.provenance["made"].to_pylist()) == {"special", "copied", "calibrate"}
    texts = {"text": world.train_pack, "validation": world.validation_pack}
    for start, read in (("auto", {"text", "validation"}), ("fvt", {"text"})):
        method = MethodConfig("calibrate", start=start)
        inputs = TransferJob(world.source, [world.helper], None, method, tmp_path / "out", **texts).plan().inputs
        assert texts.keys() & set(inputs) == read


def test_a_text_of_one_word_moves_all_new_rows(world, tmp_path: Path) -> None:
    """Most new tokens do not occur in it, and none of it is trained on alone."""
    text = tmp_path / "text.txt"
    text.write_text("das Haus\n" * 60)
    start = transferred(world, world.source, "ridge", text=text, **START)
    result = transferred(world, world.source, text=text)
    missing = result.ingredients.overlap.missing
    assert (result.input[missing] != start.input[missing]).any(dim=1).all()
    assert result.report["diagnostics"]["loss_last"] < result.report["diagnostics"]["loss_first"]


def test_one_new_token(world, tmp_path: Path) -> None:
    """Nothing to whiten over, nothing to compare counts with; the constant alone moves it."""
    folder = tmp_path / "more"
    tokenizer = AutoTokenizer.from_pretrained(world.source)
    tokenizer.add_tokens(["Straßenbahn"])
    model = AutoModelForCausalLM.from_pretrained(world.source)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    text = tmp_path / "text.txt"
    text.write_text("Straßenbahn street Straßenbahn\n" * 60)
    start, result = (
        clp_transfer.transfer(world.source, folder, method, text=text, **options)
        for method, options in (("ridge", START), ("calibrate", OPTIONS))
    )
    assert result.ingredients.overlap.missing == [330]
    changed = (result.input != start.input).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [330] and torch.isfinite(result.input).all()


def test_what_is_refused(world, tmp_path: Path) -> None:
    short, exact = tmp_path / "short.txt", tmp_path / "exact.txt"
    short.write_text("ab")
    for arguments, message in (
        ({"text": short}, r"short\.txt has 3 tokens, too few for one window of 32"),
        ({"window": 65}, "method.window=65 is longer than the source's 64 positions"),
        ({"rate": 1e30}, r"loss is not finite at step \d"),
        ({"text": None}, "needs target-language text"),
    ):
        with pytest.raises(UserError, match=message):
            transferred(world, world.source, **arguments)
    # The shortest text that has a window: one more token than it, end-of-text among them.
    exact.write_text("a" * WINDOW)
    result = transferred(world, world.source, text=exact, tokens=256)
    assert result.report["diagnostics"]["steps"] == 2


def test_a_start_that_overflows(world, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = 1e38
    monkeypatch.setitem(
        methods.METHODS, "mean", lambda problem: Solution(problem.source.new_full((len(problem.wanted), 32), huge))
    )
    with pytest.raises(UserError, match=r"(?s)not finite at step 1.*method\.start"):
        transferred(world, world.source, start="mean")


def test_a_last_step_that_overflows(world, monkeypatch: pytest.MonkeyPatch) -> None:
    """No loss comes after it that could tell."""

    def train(body, tables, *_) -> list[float]:
        tables["head"].shift.data[0, 0] = torch.inf
        return [1.0]

    monkeypatch.setattr(calibrate, "_train", train)
    with pytest.raises(UserError, match="rows of the head that are not finite"):
        transferred(world, world.untied)


def test_a_source_that_transformers_cannot_build(world, tmp_path: Path) -> None:
    """Rows can be made all the same, but not trained."""
    folder = tmp_path / "unknown"
    shutil.copytree(world.source, folder)
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"model_type": "llama"', '"model_type": "no-such-family"'))
    transferred(world, folder, "fvt")
    with pytest.raises(UserError, match="cannot be built as a causal language model"):
        transferred(world, folder)
