"""The chunked loss against torch's own cross-entropy, values and gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPTJConfig,
    GraniteConfig,
    LlamaConfig,
)

from clp_transfer.train import loss as module
from clp_transfer.train.loss import Bend, CausalLoss, linear_cross_entropy, logits_cross_entropy

SHAPE = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "num_key_value_heads": 2, "initializer_range": 0.3, "head_dim": 8,
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
ROTARY = {"vocab_size": 60, "n_embd": 16, "n_layer": 1, "n_head": 2, "rotary_dim": 4, "initializer_range": 0.3}
BENDS = [None, Bend(0.25), Bend(cap=3.0), Bend(2.0, cap=5.0)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bent(logits: torch.Tensor, bend: Bend | None) -> torch.Tensor:
    """Written out, for autograd."""
    if bend is None:
        return logits
    logits = logits * bend.scale
    return logits if bend.cap is None else torch.tanh(logits / bend.cap) * bend.cap


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("rows", [7, 64, 1000])
def test_value_and_gradients(rows: int, with_bias: bool, bend: Bend | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.CHUNKS, "cpu", (1, rows, rows))
    hidden, weight = draw(3, 33, 16).requires_grad_(), draw(50, 16, seed=1).requires_grad_()
    bias = draw(50, seed=2).requires_grad_() if with_bias else None
    targets = torch.randint(0, 50, (3, 33), generator=torch.Generator().manual_seed(3))
    logits = bent(hidden @ weight.T + (0 if bias is None else bias), bend)
    expected = cross_entropy(logits.flatten(0, 1), targets.flatten())
    inputs = [one for one in (hidden, weight, bias) if one is not None]
    wanted = torch.autograd.grad(3 * expected, inputs)
    found = linear_cross_entropy(hidden, weight, targets, bias, bend)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    for ours, theirs in zip(torch.autograd.grad(3 * found, inputs), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(hidden, weight, targets, bias, bend), found)


def test_large_logits_and_unlikely_targets_are_exact() -> None:
    hidden, weight = 40 * draw(20, 16), draw(50, 16, seed=1)
    targets = (hidden @ weight.T).argmin(dim=1)  # probabilities below what float32 holds
    expected = cross_entropy(hidden @ weight.T, targets)
    assert expected > 200
    found = linear_cross_entropy(hidden.float(), weight.float(), targets)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)


def test_under_autocast_it_is_as_near_as_the_usual_way() -> None:
    hidden, weight = draw(64, 32).float().requires_grad_(), (0.3 * draw(500, 32, seed=1)).float().requires_grad_()
    targets = torch.randint(0, 500, (64,), generator=torch.Generator().manual_seed(3))
    exact = torch.autograd.grad(cross_entropy(hidden @ weight.T, targets), [hidden, weight])
    with torch.autocast("cpu", torch.bfloat16):
        usual = torch.autograd.grad(cross_entropy((hidden @ weight.T).float(), targets), [hidden, weight])
        value = linear_cross_entropy(hidden, weight, targets)
    assert value.dtype == torch.float32
    for ours, theirs, true in zip(torch.autograd.grad(value, [hidden, weight]), usual, exact, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - true).norm() <= 1.1 * (theirs - true).norm()
    with pytest.raises(RuntimeError):
        value.backward()


def test_a_frozen_table_gets_no_gradient() -> None:
    hidden, weight = draw(9, 4).requires_grad_(), draw(7, 4)
    linear_cross_entropy(hidden, weight, torch.zeros(9, dtype=torch.long)).backward()
    assert hidden.grad is not None and weight.grad is None


def test_of_given_logits() -> None:
    for dtype, near in ((torch.float64, 1e-6), (torch.bfloat16, 2e-2)):
        logits = draw(2, 9, 40).to(dtype).requires_grad_()
        targets = torch.randint(0, 40, (2, 9), generator=torch.Generator().manual_seed(3))
        expected = cross_entropy(logits.double().flatten(0, 1), targets.flatten())
        (wanted,) = torch.autograd.grad(3 * expected, [logits])
        found = logits_cross_entropy(logits, targets)
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
        (ours,) = torch.autograd.grad(3 * found, [logits])
        torch.testing.assert_close(ours, wanted, rtol=near, atol=near * 1e-3)


@pytest.mark.parametrize("scale", [1.0, 32_768.0, 65_536.0])
def test_of_given_logits_in_float16_with_its_loss_scale(scale: float) -> None:
    """A mean's gradients are below float16's smallest number, its first scale above its largest: the product fits."""
    logits = draw(1024, 4000).half().requires_grad_()
    targets = torch.randint(0, 4000, (1024,), generator=torch.Generator().manual_seed(3))
    (ours,) = torch.autograd.grad(scale * logits_cross_entropy(logits, targets), [logits])
    exact = torch.softmax(logits.detach().double(), 1)
    exact[torch.arange(1024), targets] -= 1
    exact *= scale / 1024
    assert ours.dtype == torch.float16 and ours.isfinite().all()
    smallest = 2.0**-24  # of float16's numbers, before and after the product
    torch.testing.assert_close(ours.double(), exact, rtol=2e-3, atol=smallest * (1 + scale / 1024))


class Largest(TorchDispatchMode):
    """Remembers the most numbers that one tensor of float32 held."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, list | tuple) else [out]:
            if torch.is_tensor(one) and one.dtype == torch.float32:
                self.numbers = max(self.numbers, one.numel())
        return out


@pytest.mark.parametrize("fused", [True, False])
def test_blooms_vocabulary_never_has_all_its_float32_logits(fused: bool) -> None:
    vocabulary, tokens = 250_880, 512
    weight = torch.zeros(vocabulary, 2, requires_grad=True)
    hidden, targets = torch.ones(tokens, 2), torch.zeros(tokens, dtype=torch.long)
    with Largest() as largest, torch.autocast("cpu", torch.bfloat16):
        value = (
            linear_cross_entropy(hidden, weight, targets)
            if fused
            else logits_cross_entropy(torch.nn.functional.linear(hidden, weight), targets)
        )
        value.backward()
    assert float(value.detach()) == pytest.approx(12.4327, abs=1e-3)  # log 250,880
    assert largest.numbers == 256 * vocabulary  # half of them


def same(model: Any, fits: bool = True) -> None:
    """The fused loss and its gradients are those of the model's own logits."""
    ids = torch.randint(0, 60, (2, 17), generator=torch.Generator().manual_seed(1))
    plain = CausalLoss(model, fused=False)
    fused = CausalLoss(model, fused=True)
    assert fused.fused == fits and not plain.fused
    found = []
    for one in (lambda x, y: cross_entropy(model(input_ids=x).logits.flatten(0, 1), y.flatten()), plain, fused):
        model.zero_grad()
        value = one(ids[:, :-1], ids[:, 1:])
        value.backward()
        found.append((value.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("source", ["source", "untied", "gpt2"])
def test_fused_equals_the_models_own_logits(world: Any, source: str) -> None:
    same(AutoModelForCausalLM.from_pretrained(getattr(world, source)).eval())


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**SHAPE, final_logit_softcapping=2.0),
        CohereConfig(**SHAPE, logit_scale=0.2),
        GraniteConfig(**SHAPE, logits_scaling=4.0),
        GPTJConfig(**ROTARY),
    ],
    ids=lambda config: config.model_type,
)
def test_capped_scaled_and_biased_heads(config: Any) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    head = model.get_output_embeddings()
    if head.bias is not None:
        torch.nn.init.normal_(head.bias)
    same(model)


def test_a_head_of_another_kind_uses_the_models_own_logits() -> None:
    class Twice(torch.nn.Linear):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(hidden)

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE)).eval()
    model.lm_head.__class__ = Twice
    same(model, fits=False)


def test_logits_that_no_field_explains_are_the_models_own() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE)).eval()
    forward = model.forward

    def doubled(*given: Any, **named: Any) -> Any:
        out = forward(*given, **named)
        out.logits = out.logits * 2
        return out

    model.forward = doubled
    same(model, fits=False)


def test_segments_keep_documents_apart() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE)).eval()
    ids = torch.randint(0, 60, (1, 13), generator=torch.Generator().manual_seed(1))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    segments = torch.tensor([[0] * 5 + [1] * 7])
    for fused in (False, True):
        one = CausalLoss(model, fused)
        apart = (5 * one(inputs[:, :5], targets[:, :5]) + 7 * one(inputs[:, 5:], targets[:, 5:])) / 12
        torch.testing.assert_close(one(inputs, targets, segments), apart)
        assert abs((one(inputs, targets) - apart).item()) > 1e-3


@pytest.mark.slow
def test_fused_under_zero3_keeps_the_curve() -> None:
    """On two CPU ranks, the head's table split between them: the script compares it with plain data parallelism."""
    script = Path(__file__).with_name("zero3_loss.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", str(script)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "6 curves are the same" in done.stdout
