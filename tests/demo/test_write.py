"""What streams is what `generate` gives."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from tiny.families import save_family
from tiny.tokenizers import make
from transformers import AutoModelForCausalLM

from clp_transfer.demo.models import Opened
from clp_transfer.demo.write import Sampling, stream, write
from clp_transfer.errors import UserError

BEGINNING = "The green house"


def theirs(opened: Opened, beginning: str, **settings) -> str:
    """Transformers alone: the whole of it, decoded at once."""
    ids = [opened.tokenizer.bos_token_id, *opened.tokenizer(beginning, add_special_tokens=False)["input_ids"]]
    torch.manual_seed(settings.pop("seed"))
    output = opened.model.generate(torch.tensor([ids]), pad_token_id=0, **settings)
    return opened.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)


@pytest.mark.parametrize(("temperature", "top_p", "top_k"), [(0.8, 0.95, 0), (1.5, 1.0, 7), (0.3, 0.5, 0)])
def test_streamed_whole_and_transformers_own_are_one(opened, temperature, top_p, top_k) -> None:
    sampling = Sampling(temperature, top_p, top_k, tokens=20, seed=5)
    drawn = {"temperature": temperature, "top_p": top_p, "top_k": top_k}
    expected = theirs(opened, BEGINNING, seed=5, do_sample=True, max_new_tokens=20, **drawn)
    states = list(stream(opened, BEGINNING, sampling))
    assert states[-1] == write(opened, BEGINNING, sampling) == expected
    assert len(states) > 5, "it comes in pieces"
    assert all(after.startswith(before) for before, after in pairwise(states))


def test_temperature_0_takes_the_likeliest(opened) -> None:
    expected = theirs(opened, BEGINNING, seed=1, do_sample=False, max_new_tokens=10)
    for seed in (1, 2):
        assert write(opened, BEGINNING, Sampling(temperature=0, tokens=10, seed=seed)) == expected


def test_another_seed_writes_another_text(opened) -> None:
    texts = {write(opened, BEGINNING, Sampling(tokens=20, seed=seed)) for seed in (1, 2, 3)}
    assert len(texts) == 3


@pytest.mark.parametrize("shape", ["llama2", "metaspace", "gemma", "llama3"])
def test_spaces_and_characters_of_several_tokens_survive(tmp_path, shape) -> None:
    """A tokenizer with ▁ and bytes, decoded piece by piece, loses spaces and shows half characters."""
    tokenizer = make(shape)
    folder = save_family("llama-tied", tmp_path / "model", len(tokenizer)).folder
    opened = Opened(shape, AutoModelForCausalLM.from_pretrained(folder).eval(), tokenizer)
    sampling = Sampling(temperature=2.0, top_p=1.0, tokens=50, seed=3)
    states = list(stream(opened, "Straße", sampling))
    assert states[-1] == write(opened, "Straße", sampling)
    assert not any(state.endswith("�") for state in states[:-1])


def test_closing_it_stops_the_model(opened, monkeypatch) -> None:
    calls = []
    forward = opened.model.forward
    monkeypatch.setattr(opened.model, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    states = stream(opened, BEGINNING, Sampling(tokens=55, temperature=2.0))
    next(states)
    states.close()
    write(opened, BEGINNING, Sampling(tokens=1))  # waits until the other one has stopped
    assert len(calls) < 40


def test_the_global_generator_is_left_alone(opened) -> None:
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    list(stream(opened, BEGINNING, Sampling(tokens=5)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_text_ends_where_the_context_does(opened) -> None:
    room = 64 - 1 - len(opened.tokenizer(BEGINNING)["input_ids"])
    states = list(stream(opened, BEGINNING, Sampling(tokens=10_000, temperature=2.0)))
    assert states[-1] == write(opened, BEGINNING, Sampling(tokens=room, temperature=2.0))


@pytest.mark.parametrize(
    ("sampling", "problem"),
    [
        (Sampling(temperature=-1), "temperature is -1"),
        (Sampling(top_p=0), "top_p is 0"),
        (Sampling(top_k=-3), "top_k is -3"),
        (Sampling(tokens=0), "tokens is 0"),
    ],
)
def test_settings_out_of_range(opened, sampling, problem) -> None:
    with pytest.raises(UserError, match=problem):
        next(stream(opened, BEGINNING, sampling))


def test_a_beginning_that_fills_the_context(opened) -> None:
    with pytest.raises(UserError, match="the context of tiny 64"):
        next(stream(opened, "the house " * 60, Sampling()))


def test_a_model_that_is_not_open_and_one_that_fails(opened, monkeypatch) -> None:
    with pytest.raises(UserError, match="gone is not open: no such folder"):
        next(stream(Opened("gone", error="no such folder"), BEGINNING, Sampling()))

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(opened.model, "forward", fail)
    with pytest.raises(UserError, match="tiny cannot go on: RuntimeError: out of memory"):
        list(stream(opened, BEGINNING, Sampling()))
