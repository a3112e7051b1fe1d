"""Two ranks share the windows and find what one finds; a mistake on one is told by both."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny.ranks import evaluate, on_two_ranks

from clp_transfer.evaluate.job import EvaluateConfig, EvaluateJob
from clp_transfer.files import read_json


@pytest.mark.parametrize("windows", ["rolling", "stream"])
def test_two_ranks_equal_one(windows: str, world, tmp_path) -> None:
    config = EvaluateConfig(windows=windows, window=16, max_bytes=900, threads=1, bootstrap=20)
    job = EvaluateJob(world.helper, world.validation_pack, None, [], config, tmp_path / "two", 1)
    assert on_two_ranks(evaluate, job, tmp_path / "notes") == ["", ""]
    evaluate(replace(job, out=tmp_path / "one"))
    one, two = (read_json(tmp_path / name / "results.json") for name in ("one", "two"))
    assert two["perplexity"].pop("intervals")["bits_per_byte"] == pytest.approx(
        one["perplexity"].pop("intervals")["bits_per_byte"], rel=1e-6
    )
    for key, value in one["perplexity"].items():
        assert two["perplexity"][key] == (pytest.approx(value, rel=1e-7) if isinstance(value, float) else value)


def test_both_are_told_which_document_is_spoilt(world, tmp_path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(world.helper) for kind in (AutoModelForCausalLM, AutoTokenizer))
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer("~")["input_ids"][0]] = float("nan")
    for each in (model, tokenizer):
        each.save_pretrained(tmp_path / "nan")
    (tmp_path / "a.txt").write_text("der Hund\n\ndie Stadt\n\nein ~ Haus ist in der Stadt\n\nWasser")
    config = EvaluateConfig(window=16, threads=1)
    texts = {"a": [tmp_path / "a.txt"]}
    job = EvaluateJob(tmp_path / "nan", None, None, [], config, tmp_path / "out", 1, texts=texts)
    told = on_two_ranks(evaluate, job, tmp_path / "notes")
    # The table is tied to the head, so that every loss is spoilt; each rank names a document of its own.
    assert told[0] and told[1] and all("the loss is not finite in document" in one for one in told)
    assert not (tmp_path / "out").exists()
