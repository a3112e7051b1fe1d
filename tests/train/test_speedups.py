"""Every speed-up gives the loss curve that there is without it, within rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, GPT2Config, LlamaConfig
from transformers.activations import ACT2FN
from transformers.models.bloom.modeling_bloom import BloomGelu

from clp_transfer.errors import UserError
from clp_transfer.train import attention, speedups
from clp_transfer.train.job import TrainConfig
from clp_transfer.train.loss import CausalLoss

CONFIGS = {
    "llama": LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        initializer_range=0.1,
    ),
    "gpt2": GPT2Config(
        vocab_size=60, n_embd=32, n_layer=4, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, initializer_range=0.1,
        bos_token_id=0, eos_token_id=0,
    ),
    "bloom": BloomConfig(vocab_size=60, hidden_size=32, n_layer=4, n_head=4, initializer_range=0.1),
}  # fmt: skip


def model_of(family: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[family]).train()


def curve(family: str, steps: int = 6, prepared: bool = True, **settings: Any) -> tuple[list[float], list[str], Any]:
    """The losses of some steps of AdamW, what was done to the model, and the optimizer."""
    train = TrainConfig(**({"precision": "fp32"} | settings))
    model, done = model_of(family), []
    if prepared:
        attention.prepare(model, "auto", precision=train.precision)
        done = speedups.apply(model, train)
    module, draw, losses = CausalLoss(model, fused=prepared), torch.Generator().manual_seed(1), []
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for _ in range(steps):
        ids = torch.randint(0, 60, (2, 33), generator=draw)
        loss = module(ids[:, :-1], ids[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses, done, optimizer


def held(model: Any) -> int:
    """How many numbers a forward pass keeps for the backward one."""
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: sizes.append(one.numel()) or one, lambda one: one):
        model(input_ids=torch.zeros(1, 16, dtype=torch.long), use_cache=False)
    return sum(sizes)


@pytest.mark.parametrize("family", CONFIGS)
def test_recompute_keeps_the_curve_and_drops_activations(family: str) -> None:
    expected, _, _ = curve(family, prepared=False)
    kept = {}
    for recompute in (False, True):
        losses, done, _ = curve(family, recompute=recompute)
        assert losses == pytest.approx(expected, rel=1e-4)
        assert ("recompute" in done) == recompute
        model = model_of(family)
        speedups.apply(model, TrainConfig(precision="fp32", recompute=recompute))
        kept[recompute] = held(model)
    assert kept[True] < 0.5 * kept[False]


@pytest.mark.parametrize("family", CONFIGS)
def test_bf16_pure_is_near_and_halves_weights_and_state(family: str) -> None:
    expected, _, _ = curve(family, prepared=False)
    losses, done, optimizer = curve(family, precision="bf16_pure")
    assert losses == pytest.approx(expected, rel=0.02)
    assert "bf16_pure" in done
    state = [one for values in optimizer.state.values() for one in values.values() if one.ndim]
    weights = [one for group in optimizer.param_groups for one in group["params"]]
    assert {one.dtype for one in [*state, *weights]} == {torch.bfloat16}
    model = model_of(family)
    before = {name: one.clone() for name, one in model.named_buffers()}
    speedups.apply(model, TrainConfig(precision="bf16_pure"))
    for name, one in model.named_buffers():
        assert one.equal(before[name])


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_compile_keeps_the_curve(family: str, recompute: bool) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    losses, done, _ = curve(family, steps=3, compile=True, recompute=recompute)
    assert losses == pytest.approx(curve(family, steps=3, prepared=False)[0], rel=1e-4)
    assert done[-1] == "compile"
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3  # the layers share theirs


def test_activations_are_the_same_functions() -> None:
    model = torch.nn.Sequential(
        ACT2FN["gelu_new"], torch.nn.Sequential(BloomGelu(), ACT2FN["gelu_fast"]), ACT2FN["gelu"]
    )
    slow = [model[0], model[1][0], model[1][1]]
    assert speedups.fuse_activations(model) == 3
    assert model[2] is ACT2FN["gelu"] or type(model[2]).__name__ == "GELUActivation"  # another function: left alone
    for mine, theirs in zip([model[0], model[1][0], model[1][1]], slow, strict=True):
        x, y = (torch.linspace(-6, 6, 1001).requires_grad_() for _ in range(2))
        ours, wanted = mine(x), theirs(y)
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=2e-6)
        ours.sum().backward()
        wanted.sum().backward()
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=5e-6)


def test_what_cannot_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("llama")
    monkeypatch.setattr(speedups.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="compiler"):
        speedups.apply(model, TrainConfig(precision="fp32", compile=True))
    model.supports_gradient_checkpointing = False
    with pytest.raises(UserError, match="again"):
        speedups.apply(model, TrainConfig(precision="fp32", recompute=True))
    assert [len(speedups.blocks(model_of(family))) for family in CONFIGS] == [4, 4, 4]
