"""Step 0: the same numbers as from the target that `clp.py` writes, and the same documents for all."""

from __future__ import annotations

import pytest
from transformers import AutoModelForCausalLM

from clp_transfer.clp.job import MethodConfig, TransferJob
from clp_transfer.clp.run import transfer
from clp_transfer.errors import UserError
from clp_transfer.evaluate import step0 as module
from clp_transfer.evaluate.job import EvaluateConfig, Step0Job
from clp_transfer.evaluate.perplexity import measure
from clp_transfer.evaluate.step0 import step0
from clp_transfer.files import read_json
from clp_transfer.manifest import is_complete
from clp_transfer.packed import PackedCorpus, write_pack

METHODS = ["mean", "ridge", "fvt"]


@pytest.fixture
def own_pack(world, tmp_path):
    """The validation documents in the source's ids: one id a byte will do."""
    pairs = [(text, [1 + byte % 300 for byte in text.encode()]) for text in world.german[350:]]
    write_pack(tmp_path / "own", pairs, eos_id=0, vocab_size=330, tokenizer="test")
    return tmp_path / "own"


@pytest.fixture(params=["source", "untied", "gpt2"])
def job(request, world, own_pack, tmp_path) -> Step0Job:
    return Step0Job(
        source=getattr(world, request.param),
        helpers=[world.helper],
        tokenizer=world.target_tokenizer,
        methods=[MethodConfig(name) for name in METHODS],
        pack=world.validation_pack,
        own_pack=own_pack,
        config=EvaluateConfig(step0_window=32, step0_bytes=700, threads=1),
        out=tmp_path / "step0",
        seed=1,
    )


def test_equals_the_written_targets(job, tmp_path) -> None:
    step0(job)
    assert is_complete(job.plan())
    found = read_json(job.out / "results.json")
    assert list(found["bits_per_byte"]) == ["own_tokenizer", *METHODS]
    pack = PackedCorpus(job.pack)
    tokens, documents = pack.head(700)
    assert (found["documents"], found["bytes"]) == (len(documents), documents[:, 1].sum())
    for method in job.methods:
        out = tmp_path / method.name
        transfer(TransferJob(job.source, job.helpers, job.tokenizer, method, out, job.seed, "de"))
        model = AutoModelForCausalLM.from_pretrained(out)
        expected = measure(model, tokens, documents, eos_id=0, window=32, batch_size=4)
        assert found["bits_per_byte"][method.name] == pytest.approx(expected.bits_per_byte, rel=1e-6)
        details = found["details"][method.name]
        assert details["tokens"] == len(tokens) and {"warnings", "diagnostics"} <= set(details)
    own = PackedCorpus(job.own_pack)
    model = AutoModelForCausalLM.from_pretrained(job.source)
    expected = measure(model, *own.head(700), eos_id=0, window=32, batch_size=4)
    assert found["bits_per_byte"]["own_tokenizer"] == pytest.approx(expected.bits_per_byte, rel=1e-6)


@pytest.mark.parametrize("job", ["source"], indirect=True)
def test_goes_on_after_the_methods_it_has(job, monkeypatch) -> None:
    made = []

    def rows(ingredients, method, seed, **more):
        made.append(method.name)
        if made == ["mean", "ridge"]:
            raise KeyboardInterrupt
        return compute_rows(ingredients, method, seed, **more)

    compute_rows = module.compute_rows
    monkeypatch.setattr(module, "compute_rows", rows)
    with pytest.raises(KeyboardInterrupt):
        step0(job)
    assert not job.out.exists()
    step0(job)
    assert made == ["mean", "ridge", "ridge", "fvt"]
    assert list(read_json(job.out / "results.json")["bits_per_byte"]) == ["own_tokenizer", *METHODS]
    assert {path.name for path in job.out.iterdir()} == {"results.json", "manifest.json"}


@pytest.mark.parametrize("job", ["source"], indirect=True)
def test_different_documents_are_refused(job, world) -> None:
    pairs = [(text, [1, 2, 3]) for text in reversed(world.german[350:])]
    write_pack(job.own_pack, pairs, eos_id=0, vocab_size=330, tokenizer="test")
    with pytest.raises(UserError, match="do not hold the same documents"):
        step0(job)
