"""Perplexity against an oracle that predicts one token at a time in float64, and against the harness."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from clp_transfer.errors import UserError
from clp_transfer.evaluate import perplexity
from clp_transfer.evaluate.perplexity import Perplexity, measure


def oracle(model, tokens, eos_id: int, window: int) -> float:
    """Total nats: every token from the window's context alone, one forward each, in float64."""
    model = model.double()
    stream, nats = [eos_id, *map(int, tokens)], 0.0
    for position in range(1, len(stream)):
        start = (position - 1) // window * window
        with torch.no_grad():
            logits = model(torch.tensor([stream[start:position]])).logits[0, -1]
        nats -= float(torch.log_softmax(logits, -1)[stream[position]])
    model.float()
    return nats


@pytest.mark.parametrize("window", [7, 64])
def test_equals_one_token_at_a_time(model, documents, window) -> None:
    tokens, index = documents
    expected = oracle(model, tokens, 0, window) / len(tokens)
    for batch_size in (1, 3):
        found = measure(model, tokens, index, eos_id=0, window=window, batch_size=batch_size)
        assert found.nats_per_token == pytest.approx(expected, abs=1e-6)


def test_chunks_and_memory_bound_change_nothing(model, documents, monkeypatch) -> None:
    tokens, index = documents
    whole = measure(model, tokens, index, eos_id=0, window=8, batch_size=4)
    monkeypatch.setattr(perplexity, "CHUNK_LOGITS", 1)
    monkeypatch.setattr(perplexity, "BATCH_LOGITS", 1)
    shapes = []
    model.register_forward_pre_hook(lambda _, args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True)
    parts = measure(model, tokens, index, eos_id=0, window=8, batch_size=4)
    assert parts.nats == pytest.approx(whole.nats, abs=1e-4)
    assert {rows for rows, _ in shapes} == {1}


def test_every_token_is_predicted_once(model, documents) -> None:
    tokens, index = documents
    for window in (1, 5, 8, 64):
        seen: list[int] = []
        batches = perplexity._batches(tokens, 0, window, 2, 300)
        for start, inputs, targets in batches:
            assert start == len(seen)
            assert inputs.shape == targets.shape and inputs.shape[1] <= window
            assert inputs.flatten().tolist() == [0, *tokens.tolist()][start : start + targets.numel()]
            seen += targets.flatten().tolist()
        assert seen == tokens.tolist()
        found = measure(model, tokens, index, eos_id=0, window=window, batch_size=2)
        assert (found.tokens, found.documents) == (72, 5)
        assert (found.bytes, found.words) == (134, 67)


def test_equals_the_harness_on_one_document(model, tokenizer, world) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    text = world.english[0]
    ids = np.array(tokenizer(text)["input_ids"])
    # The harness does not predict a closing end-of-text, so here the document goes without.
    index = np.array([[len(ids), len(text.encode()), len(text.split())]])
    found = measure(model, ids, index, eos_id=0, window=64, batch_size=1)
    lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1)
    request = Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0)
    assert found.nats == pytest.approx(-lm.loglikelihood_rolling([request])[0], abs=1e-4)


def test_units() -> None:
    found = Perplexity(nats=693.0, tokens=200, bytes=500, words=100, documents=3)
    assert found.nats_per_token == 3.465
    assert found.bits_per_byte == pytest.approx(693 * math.log2(math.e) / 500)
    assert found.token_perplexity == pytest.approx(math.e**3.465)
    assert found.word_perplexity == pytest.approx(math.e**6.93)
    assert found.byte_perplexity == pytest.approx(2**found.bits_per_byte)


def test_a_perplexity_beyond_floats_is_null_in_json() -> None:
    found = Perplexity(nats=1e6, tokens=100_000, bytes=500, words=1, documents=1)
    assert found.word_perplexity == math.inf
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert values["word_perplexity"] is None and values["nats_per_token"] == 10.0


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_restored(model, documents, training) -> None:
    tokens, index = documents
    model.train(training)
    measure(model, tokens, index, eos_id=0, window=8, batch_size=4)
    assert model.training is training


def test_nan_weights_are_named(model, documents) -> None:
    tokens, index = documents
    spoilt = int(tokens[36])  # in the third document; through attention it spoils its window, from token 32 on
    tokens[:36][tokens[:36] == spoilt] = 1
    with torch.no_grad():
        model.get_input_embeddings().weight = torch.nn.Parameter(model.get_input_embeddings().weight.clone())
        model.get_input_embeddings().weight[spoilt] = math.nan
    model.train()
    with pytest.raises(UserError, match=r"in document 1 .*\(token 32 of all, window 4; "):
        measure(model, tokens, index, eos_id=0, window=8, batch_size=2)
    assert model.training


def test_ids_beyond_the_embedding_are_refused(model, documents) -> None:
    tokens, index = documents
    rows = model.get_input_embeddings().weight.shape[0]
    tokens[5] = rows
    with pytest.raises(UserError, match=f"token id {rows}, but the model's embedding has {rows} rows"):
        measure(model, tokens, index, eos_id=0, window=8, batch_size=2)
