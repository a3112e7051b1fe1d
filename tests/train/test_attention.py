"""Fused attention against transformers' eager one: values, gradients, padding, caches, recomputation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM, Gemma2Config, LlamaConfig
from transformers.models.bloom.modeling_bloom import BloomAttention, _get_alibi_slopes

from clp_transfer.errors import UserError
from clp_transfer.train import attention, blocked

KINDS = ("auto", "columns", "bias")


def bloom(heads: int = 4, width: int = 48, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=90, hidden_size=width, n_layer=2, n_head=heads, initializer_range=0.3, bos_token_id=0,
        eos_token_id=0, pad_token_id=0, **changes,
    )  # fmt: skip
    return BloomForCausalLM(config)


def ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(1, 90, (rows, length), generator=torch.Generator().manual_seed(1))


def computed(model: Any, tokens: torch.Tensor, **more: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits, and the gradients of a sum that weighs them all differently."""
    model.zero_grad()
    logits = model(input_ids=tokens, use_cache=False, **more).logits.float()
    kept = logits * more["attention_mask"][..., None] if "attention_mask" in more else logits
    (kept * torch.linspace(-1, 1, kept.numel()).view(kept.shape)).sum().backward()
    return kept.detach(), [p.grad.float().clone() for p in model.parameters()]


@pytest.mark.parametrize("heads", [1, 2, 6, 8, 12, 16, 25])
def test_slopes_are_those_of_transformers(heads: int) -> None:
    expected = _get_alibi_slopes(heads, torch.device("cpu"))
    torch.testing.assert_close(torch.tensor(attention.slopes(heads)), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("heads", "width"), [(4, 48), (6, 48), (3, 30)])
def test_bloom_in_float32(kind: str, heads: int, width: int) -> None:
    model, tokens = bloom(heads, width), ids(2, 150)
    expected = computed(model, tokens)
    assert attention.fuse_bloom(model, kind)
    found = computed(model, tokens)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)
    attention.restore(model)
    assert {type(one) for one in model.modules() if "Attention" in type(one).__name__} == {BloomAttention}
    assert model.base_model.config is model.config
    torch.testing.assert_close(computed(model, tokens), expected, rtol=0, atol=0)


@pytest.mark.parametrize("pure", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_bloom_in_bfloat16_is_nearer_to_float32_than_eager(kind: str, pure: bool) -> None:
    model, tokens = bloom(4, 32), ids(1, 300)
    exact = computed(model, tokens)
    if pure:
        model.to(torch.bfloat16)

    def distance() -> tuple[float, float]:
        with torch.autocast("cpu", torch.bfloat16, enabled=not pure):
            found = computed(model, tokens)
        gradients = zip(found[1], exact[1], strict=True)
        return float((found[0] - exact[0]).norm()), float(sum((a - b).norm() / b.norm() for a, b in gradients))

    eager = distance()
    attention.fuse_bloom(model, kind)
    fused = distance()
    assert fused[0] < 0.7 * eager[0]
    assert fused[1] < 0.7 * eager[1]
    assert fused[0] < 0.1 * float(exact[0].norm())


@pytest.mark.parametrize("padding", [[0] * 9 + [1] * 31, [1] * 31 + [0] * 9, [1] * 10 + [0] * 4 + [1] * 26])
@pytest.mark.parametrize("kind", KINDS)
def test_bloom_with_a_padding_mask(kind: str, padding: list[int]) -> None:
    model, tokens = bloom(6), ids(2, 40)
    mask = torch.tensor([padding, [1] * 40])
    expected = computed(model, tokens, attention_mask=mask)
    attention.fuse_bloom(model, kind)
    torch.testing.assert_close(computed(model, tokens, attention_mask=mask), expected, rtol=1e-3, atol=1e-3)


def test_bloom_recomputes_activations() -> None:
    model, tokens = bloom().train(), ids(2, 40)
    attention.fuse_bloom(model)
    expected = computed(model, tokens)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    torch.testing.assert_close(computed(model, tokens), expected)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_bloom_generates_the_same_with_a_cache(cache: str) -> None:
    model, tokens = bloom().eval(), ids(2, 12)
    mask = torch.ones_like(tokens)
    mask[0, :5] = 0
    how = {"max_new_tokens": 12, "do_sample": False, "attention_mask": mask, "eos_token_id": None}
    expected = model.generate(tokens, **how)
    attention.fuse_bloom(model)
    assert model.generate(tokens, **how, cache_implementation=cache).equal(expected)


def test_bloom_still_gives_its_weights() -> None:
    model, tokens = bloom().eval(), ids(2, 12)
    mask = torch.ones_like(tokens)
    mask[0, :5] = 0
    for more in ({}, {"attention_mask": mask}):
        attention.restore(model)
        expected = model(input_ids=tokens, output_attentions=True, **more).attentions
        attention.fuse_bloom(model)
        found = model(input_ids=tokens, output_attentions=True, **more).attentions
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours[1], theirs[1])
            torch.testing.assert_close(ours[0, :, 5:], theirs[0, :, 5:])


def test_training_after_inference_mode_and_on_a_copy(tmp_path: Path) -> None:
    model, tokens = bloom(), ids(1, 20)
    expected = computed(model, tokens)
    attention.fuse_bloom(model)
    with torch.inference_mode():
        model(input_ids=tokens, use_cache=False)
    torch.testing.assert_close(computed(copy.deepcopy(model), tokens), expected, rtol=1e-3, atol=1e-3)
    assert BloomForCausalLM(model.config)(input_ids=tokens).logits.shape == expected[0].shape
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(computed(again, tokens), expected)


def test_other_families_are_left_alone(world: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(world.source)
    assert not attention.fuse_bloom(model)
    assert attention.prepare(model, "auto", precision="fp32") == "sdpa"
    attention.restore(model)


@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("length", [40, 128, 300])
def test_blocked_equals_eager(heads: int, length: int) -> None:
    """In bfloat16 as near to the float32 result as eager is, with shared key-value heads too."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=90, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=heads, initializer_range=0.3,
    )  # fmt: skip
    model, tokens = AutoModelForCausalLM.from_config(config), ids(2, length)
    exact = computed(model, tokens)
    errors = []
    for name in ("eager", blocked.NAME):
        model.set_attn_implementation(name)
        with torch.autocast("cpu", torch.bfloat16):
            found = computed(model, tokens)
        errors.append(
            [
                float((a - b).norm() / b.norm())
                for a, b in zip([found[0], *found[1]], [exact[0], *exact[1]], strict=True)
            ]
        )
    eager, ours = (torch.tensor(one) for one in errors)
    assert float(ours.max()) < 0.1
    assert (ours < 1.3 * eager + 0.01).all()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        mask = torch.ones_like(tokens)
        mask[0, :3] = 0
        model(input_ids=tokens, attention_mask=mask)  # goes to torch's own


def test_choice(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    llama = LlamaConfig()
    assert attention.choose(llama, "auto") == blocked.NAME
    assert attention.choose(llama, "auto", precision="fp32") == "sdpa"
    assert attention.choose(BloomConfig(), "auto") == "eager"
    assert attention.choose(Gemma2Config(), "auto") == "eager"
    assert attention.choose(llama, "eager") == "eager"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert attention.choose(llama, "auto") == "sdpa"
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: True)
    assert attention.choose(llama, "auto") == "flash_attention_2"
    assert attention.choose(llama, "auto", precision="fp32") == "sdpa"
    assert attention.choose(llama, "auto", document_mask=True) == "sdpa"
    monkeypatch.setattr(attention, "is_flash_attn_3_available", lambda: True)
    assert attention.choose(llama, "auto") == "flash_attention_3"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert attention.choose(llama, "auto") == "flash_attention_2"


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (LlamaConfig(), "flash_attention_2"),
        (Gemma2Config(), "sdpa"),
        (BloomConfig(), "flex_attention"),
    ],
)
def test_what_cannot_be_had_is_an_error(config: Any, wanted: str) -> None:
    with pytest.raises(UserError, match=wanted):
        attention.choose(config, wanted)


@pytest.mark.parametrize(("wanted", "name"), [("auto", "alibi_auto"), ("sdpa", "alibi_bias"), ("eager", "eager")])
def test_prepare_on_bloom(wanted: str, name: str) -> None:
    model = bloom()
    assert attention.prepare(model, wanted) == name
    assert any(isinstance(one, attention.FusedBloomAttention) for one in model.modules()) == (wanted != "eager")


def test_blocked_is_as_exact_as_torchs_own_kernel_in_bfloat16() -> None:
    """Peaked scores, where rounding them would show: errors of output and gradients against float64."""
    torch.manual_seed(0)
    query, key, value, grad = (torch.randn(4, 3, 200, 32).bfloat16() * size for size in (3, 3, 1, 1))

    def computed(attend: Any, dtype: torch.dtype) -> list[torch.Tensor]:
        given = [one.to(dtype).clone().requires_grad_() for one in (query, key, value)]
        output = attend(*given)
        output.backward(grad.to(dtype))
        return [output.detach().double(), *(one.grad.double() for one in given)]  # type: ignore[union-attr]

    def fused(*given: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(*given, is_causal=True)

    exact = computed(fused, torch.float64)
    ours = computed(lambda *given: blocked.causal_attention(*given, scale=32**-0.5), torch.bfloat16)
    for mine, theirs, right in zip(ours, computed(fused, torch.bfloat16), exact, strict=True):
        assert (mine - right).norm() < 1.5 * (theirs - right).norm()
