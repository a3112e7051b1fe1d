"""`perplexity_of` refuses what cannot be meant, and leaves out what holds nothing."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from clp_transfer.errors import UserError
from clp_transfer.evaluate.api import perplexity_of

TEXTS = ["the house", "a dog is in the city"]


@pytest.fixture(scope="module")
def llama(world):
    return AutoModelForCausalLM.from_pretrained(world.source)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"batch_size": -1}, "batch_size=-1 makes no sense"),
        ({"window": 0}, "window=0 makes no sense"),
        ({"window": 2.5}, "window=2.5 makes no sense"),
        ({"windows": "strided", "stride": 0}, "stride=0 makes no sense"),
        ({"windows": "strided", "stride": -3}, "stride=-3 makes no sense"),
        ({"bootstrap": -1}, "bootstrap=-1 makes no sense"),
        ({"texts": "the house"}, "texts is str 'the house', not a list of documents"),
        ({"texts": {"news": "the house"}}, r"texts\['news'\] is str 'the house', not a list"),
        ({"texts": None}, "texts is NoneType 'None', not a list"),
        ({"texts": ["a", None]}, r"texts\[1\] is NoneType 'None', not a text"),
        ({"texts": {"a": ["\ud800b"]}}, r"texts\['a'\]\[0\] is no valid Unicode: surrogates .* at character 0"),
        ({"texts": ["", " \n"]}, "texts is empty: 2 documents are empty"),
        ({"tokenizer": None}, "tokenizer=None is no tokenizer"),
        ({"tokenizer": "gpt2"}, "tokenizer='gpt2' is no tokenizer"),
    ],
)
def test_what_cannot_be_meant_is_refused(llama, tokenizer, changes, what) -> None:
    options = {"tokenizer": tokenizer, "texts": TEXTS, "window": 16, "bootstrap": 5} | changes
    with pytest.raises(UserError, match=what):
        perplexity_of(llama, **options)


def test_empty_documents_are_left_out_and_counted(llama, tokenizer) -> None:
    plain = perplexity_of(llama, tokenizer, {"a": TEXTS}, window=16, bootstrap=20)
    found = perplexity_of(llama, tokenizer, {"a": [*TEXTS, "", " "], "b": [""]}, window=16, bootstrap=20)
    assert found.pop("left_out") == {"empty": 3} and "left_out" not in plain
    assert found == plain
    assert all(map(math.isfinite, found["intervals"]["bits_per_byte"])) and json.dumps(found, allow_nan=False)


def test_numbers_of_numpy_and_any_iterable_will_do(llama, tokenizer) -> None:
    found = perplexity_of(llama, tokenizer, (text for text in TEXTS), window=np.int64(16), bootstrap=0)
    assert found == perplexity_of(llama, tokenizer, TEXTS, window=16, bootstrap=0)
