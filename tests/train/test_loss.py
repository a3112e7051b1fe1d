"""The chunked loss against torch's own cross-entropy, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

from clp_transfer.train import loss as module
from clp_transfer.train.loss import CausalLoss, linear_cross_entropy


@pytest.mark.parametrize("rows", [7, 64, 1000])
def test_value_and_gradients(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 33, 16, generator=draw, dtype=torch.float64).requires_grad_()
    weight = torch.randn(50, 16, generator=draw, dtype=torch.float64).requires_grad_()
    targets = torch.randint(0, 50, (3, 33), generator=draw)
    expected = cross_entropy((hidden @ weight.T).flatten(0, 1), targets.flatten())
    wanted = torch.autograd.grad(3 * expected, [hidden, weight])
    found = linear_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(torch.autograd.grad(3 * found, [hidden, weight]), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("source", ["source", "untied", "gpt2"])
def test_fused_equals_the_models_own_logits(world, source: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(getattr(world, source)).eval()
    ids = torch.randint(0, 300, (2, 17), generator=torch.Generator().manual_seed(1))
    fused, plain = CausalLoss(model, fused=True), CausalLoss(model, fused=False)
    assert fused.fused and not plain.fused
    grads = []
    for one in (fused, plain):
        model.zero_grad()
        value = one(ids[:, :-1], ids[:, 1:])
        value.backward()
        grads.append((value.detach(), [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(grads[0][0], grads[1][0])
    for ours, theirs in zip(grads[0][1], grads[1][1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_a_family_that_caps_its_logits_keeps_its_own(world) -> None:
    config = Gemma2Config(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, final_logit_softcapping=0.01, max_position_embeddings=64,
    )  # fmt: skip
    assert not CausalLoss(Gemma2ForCausalLM(config), fused=True).fused
