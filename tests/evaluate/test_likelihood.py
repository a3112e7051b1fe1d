"""Log-likelihoods against lm-evaluation-harness, and against one window at a time in float32 with full logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny.families import FAMILIES
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from clp_transfer.errors import UserError
from clp_transfer.evaluate import head
from clp_transfer.evaluate.api import perplexity_of
from clp_transfer.evaluate.head import logits_losses, token_losses
from clp_transfer.evaluate.likelihood import Likelihood
from clp_transfer.evaluate.windows import cut
from clp_transfer.train.loss import Bend

ROWS = 330


def make(family: str):
    """A tiny model of a family with weights large enough for the predictions to differ from uniform."""
    kind, settings, *_ = FAMILIES[family]
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(settings | ids), vocab_size=ROWS)).float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture
def texts(world):
    """Documents of a few words up to several windows."""
    draw, sentences = np.random.default_rng(8), iter(world.english * 3)
    return [" ".join(next(sentences) for _ in range(n)) for n in draw.integers(1, 9, 12)]


def oracle(model, tokenizer, texts: list[str], window: int, stride: int) -> tuple[float, int]:
    """Nats and tokens: one forward a window over the whole document, in float32, full logits, sums in float64."""
    nats, count = 0.0, 0
    for text in texts:
        x, done = [0, *tokenizer(text)["input_ids"]], 0
        while done < len(x) - 1:
            end = min(window if done == 0 else done + stride, len(x) - 1)
            with torch.no_grad():
                logits = model(torch.tensor([x[max(0, end - window) : end]])).logits[0].float()
            losses = functional.cross_entropy(
                logits[done - end :], torch.tensor(x[done + 1 : end + 1]), reduction="none"
            )
            nats += float(losses.double().sum())
            count, done = count + end - done, end
    return nats, count


@pytest.mark.parametrize("family", ["gpt2", "bloom", "llama-tied"])
def test_every_unit_is_the_harness_s(family: str, tokenizer, texts) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import bits_per_byte, weighted_perplexity
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks.wikitext.preprocess_wikitext import process_results

    model = make(family)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=3, max_length=32)
    requests = [
        Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=i) for i, text in enumerate(texts)
    ]
    rows = [
        process_results({"page": text}, (value,))
        for text, value in zip(texts, lm.loglikelihood_rolling(requests, disable_tqdm=True), strict=True)
    ]
    found = perplexity_of(model, tokenizer, texts, window=32, bootstrap=20)
    for name, aggregate in (
        ("word_perplexity", weighted_perplexity),
        ("byte_perplexity", weighted_perplexity),
        ("bits_per_byte", bits_per_byte),
    ):
        assert found[name] == pytest.approx(aggregate([row[name] for row in rows]), rel=1e-4)
    assert found["windows"] == "rolling" and found["bos"]["id"] == 0 and found["window"] == found["stride"] == 32


@pytest.mark.parametrize("family", ["gpt2", "bloom", "llama-untied", "gemma2", "phi", "opt-projected", "gpt-neox"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_equals_one_window_at_a_time(family: str, precision: str, tokenizer, texts) -> None:
    model = make(family)
    for windows, stride in (("rolling", 24), ("strided", 7)):
        nats, tokens = oracle(model, tokenizer, texts, 24, stride)
        found = perplexity_of(
            model, tokenizer, texts, windows=windows, window=24, stride=stride, precision=precision, bootstrap=0
        )
        assert found["tokens"] == tokens
        # The error of bfloat16's 8 bits averages out over tokens, of which there are few here.
        bound = 1e-5 if precision == "fp32" else 3e-3
        assert found["nats_per_token"] == pytest.approx(nats / tokens, abs=bound)


def test_batches_and_chunks_change_nothing(tokenizer, texts, monkeypatch) -> None:
    model = make("llama-tied")
    first = perplexity_of(model, tokenizer, texts, window=16, bootstrap=0)["nats_per_token"]
    rows = []
    model.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    found = perplexity_of(model, tokenizer, texts, window=16, bootstrap=0, batch_size=2)
    assert found["nats_per_token"] == pytest.approx(first)
    assert max(rows) == 2
    monkeypatch.setattr(head, "ROWS", 7)
    monkeypatch.setattr(head, "ENTRIES", 100)
    found = perplexity_of(model, tokenizer, texts, window=16, bootstrap=0)
    assert found["nats_per_token"] == pytest.approx(first)


@pytest.mark.parametrize("bend", [Bend(), Bend(0.25), Bend(1.0, 5.0)])
@pytest.mark.parametrize("biased", [False, True])
def test_the_head_against_cross_entropy(bend: Bend, biased: bool) -> None:
    torch.manual_seed(2)
    hidden, weight, targets = torch.randn(50, 16), torch.randn(2500, 16), torch.randint(0, 2500, (50,))
    bias = torch.randn(2500) if biased else None
    logits = functional.linear(hidden.double(), weight.double(), None if bias is None else bias.double())
    logits = bend(logits)
    expected = functional.cross_entropy(logits, targets, reduction="none")
    assert torch.allclose(token_losses(hidden, weight, targets, bias, bend).double(), expected, atol=2e-5)
    assert torch.allclose(logits_losses(logits.float(), targets).double(), expected, atol=2e-5)


def test_entries_that_cannot_come_are_no_mistake() -> None:
    """Rows that only pad the table may have a bias of minus infinity; whole chunks of them, and the first one."""
    torch.manual_seed(2)
    hidden, weight, bias = torch.randn(9, 8), torch.randn(3 * head.ENTRIES, 8), torch.zeros(3 * head.ENTRIES)
    bias[head.ENTRIES :] = -math.inf
    bias[0] = -math.inf
    targets = torch.arange(1, 10)
    expected = functional.cross_entropy(functional.linear(hidden, weight, bias), targets, reduction="none")
    assert torch.allclose(token_losses(hidden, weight, targets, bias), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["llama-tied", "opt-projected"])
def test_nan_is_named_by_its_document(family: str, tokenizer) -> None:
    model = make(family)
    spoilt = tokenizer("~")["input_ids"][0]
    table = model.get_input_embeddings()
    table.weight = torch.nn.Parameter(table.weight.detach().clone())
    with torch.no_grad():
        table.weight[spoilt] = math.nan
    model.train()
    with pytest.raises(UserError, match=r"not finite in document 2 of texts \(counted from 0\)"):
        perplexity_of(model, tokenizer, ["the house", "a dog is in", "green ~ tree", "city"], window=16)
    assert model.training


def test_a_document_a_thousand_times_as_long_as_the_context(tokenizer, world) -> None:
    model = make("gpt2")
    text = " ".join(world.english * 2)
    found = perplexity_of(model, tokenizer, [text], window=4, bootstrap=10)
    assert found["tokens"] > 4 * 1000 and found["documents"] == 1 and found["intervals"] == {}
    assert found["nats_per_token"] == pytest.approx(np.divide(*oracle(model, tokenizer, [text], 4, 4)), abs=1e-5)


def test_a_window_beyond_the_context_is_refused(tokenizer) -> None:
    with pytest.raises(UserError, match=r"evaluate\.window=65 is more than the model's context of 64 tokens"):
        perplexity_of(make("gpt2"), tokenizer, ["a"], window=65)
    assert perplexity_of(make("gpt2"), tokenizer, ["a"])["window"] == 64
    assert perplexity_of(make("bloom"), tokenizer, ["a"], window=100)["window"] == 100  # it names no limit


def test_no_text_and_a_tokenizer_that_does_not_fit(tokenizer, world) -> None:
    for nothing in ([], [""], {"a": []}):
        with pytest.raises(UserError, match="is empty"):
            perplexity_of(make("gpt2"), tokenizer, nothing)
    larger = AutoTokenizer.from_pretrained(world.target_tokenizer)
    with pytest.raises(UserError, match="340 tokens, but the model's embedding has 330 rows"):
        perplexity_of(make("gpt2"), larger, ["a"])
    with pytest.raises(UserError, match="choose one of rolling, strided, stream"):
        perplexity_of(make("gpt2"), tokenizer, ["a"], windows="sliding")


def test_a_tokenizer_without_special_tokens_is_refused(tokenizer) -> None:
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(UserError, match="neither a beginning- nor an end-of-sequence token"):
        perplexity_of(make("gpt2"), tokenizer, ["a"])


def test_parts_and_a_model_by_its_folder(world) -> None:
    texts = {"news": world.english[:3], "novels": world.english[3:10]}
    found = perplexity_of(world.source, texts=texts, bootstrap=50)
    alone = perplexity_of(world.source, texts=world.english[3:10], bootstrap=0)
    assert list(found["parts"]) == ["news", "novels"]
    assert found["parts"]["novels"]["bits_per_byte"] == pytest.approx(alone["bits_per_byte"], rel=1e-6)
    low, high = found["intervals"]["bits_per_byte"]
    assert low <= found["bits_per_byte"] <= high


def test_window_nats_add_up_over_ranks(tokenizer, texts) -> None:
    model = make("llama-tied")
    documents = [np.array([0, *tokenizer(text)["input_ids"]], dtype=np.int32) for text in texts]
    windows = cut(np.array([len(ids) - 1 for ids in documents]), 16, 16)
    likelihood = Likelihood(model)
    whole = likelihood.nats(documents, windows)
    parts = [likelihood.nats(documents, windows, (rank, 3)) for rank in range(3)]
    assert sum(parts) == pytest.approx(whole, abs=1e-4)
    assert all(((part == 0) | np.isclose(part, whole, atol=1e-4)).all() for part in parts)
