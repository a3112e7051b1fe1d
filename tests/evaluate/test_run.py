"""The evaluate stage end to end: what it writes, what it keeps, what it refuses."""

from __future__ import annotations

import json
import lzma
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from clp_transfer.errors import UserError
from clp_transfer.evaluate import run
from clp_transfer.evaluate.api import perplexity_of
from clp_transfer.evaluate.job import EvaluateConfig, EvaluateJob
from clp_transfer.evaluate.perplexity import measure
from clp_transfer.evaluate.samples import continuations
from clp_transfer.files import read_json
from clp_transfer.manifest import is_complete
from clp_transfer.packed import PackedCorpus


@pytest.fixture
def job(world, task, labels, tmp_path) -> EvaluateJob:
    """The helper, which is a model with the target's tokenizer, on the first 500 bytes."""
    config = EvaluateConfig(
        window=16, max_bytes=500, prompts=["der Hund", ""], sample_tokens=8, threads=1, bootstrap=50
    )
    return EvaluateJob(
        model=world.helper,
        validation_pack=world.validation_pack,
        task=task,
        labels=labels,
        config=config,
        out=tmp_path / "out",
        seed=1,
    )


def test_results(job) -> None:
    run.evaluate(job)
    assert is_complete(job.plan())
    found = read_json(job.out / "results.json")
    keys = "tokens bytes words documents nats_per_token token_perplexity word_perplexity byte_perplexity bits_per_byte"
    about = "windows window stride policy bos precision pack ids intervals"
    assert list(found["perplexity"]) == [*keys.split(), *about.split()]
    assert 400 < found["perplexity"]["bytes"] <= 500
    assert found["perplexity"]["ids"] == "the pack's own" and found["perplexity"]["precision"] == "fp32"
    assert found["tasks"]["domains"]["documents"] == 24
    assert [sample["prompt"] for sample in found["samples"]] == ["der Hund", ""]
    assert {path.name for path in job.out.iterdir()} == {"results.json", "manifest.json"}


def test_the_pack_by_every_policy(job, world) -> None:
    """The pack's documents are the texts that it was made of, and a stream is what training measures."""
    model = AutoModelForCausalLM.from_pretrained(world.helper)
    pack = PackedCorpus(world.validation_pack)
    tokens, documents = pack.head(500)
    texts = world.german[350:][: len(documents)]
    for windows, stride in (("rolling", None), ("strided", 5), ("stream", None)):
        config = replace(job.config, windows=windows, stride=stride, prompts=[])
        run.evaluate(replace(job, config=config, task=None))
        found = read_json(job.out / "results.json")["perplexity"]
        expected = perplexity_of(
            model, AutoTokenizer.from_pretrained(world.helper), texts, windows=windows, window=16, stride=stride
        )
        for unit in ("tokens", "bytes", "words", "documents", "nats_per_token", "word_perplexity"):
            assert found[unit] == pytest.approx(expected[unit], rel=1e-6)
    assert found["nats_per_token"] == pytest.approx(
        measure(model, tokens, documents, eos_id=0, window=16, batch_size=32).nats_per_token, rel=1e-9
    )


def test_another_tokenizer_reads_the_pack_s_text(job, world) -> None:
    run.evaluate(replace(job, model=world.gpt2, tokenizer=world.target_tokenizer, task=None))
    found = read_json(job.out / "results.json")["perplexity"]
    count = found["documents"]
    texts = world.german[350:][:count]
    expected = perplexity_of(world.gpt2, texts=texts, window=16)
    assert found["bits_per_byte"] == pytest.approx(expected["bits_per_byte"], rel=1e-6)
    assert found["ids"].startswith("the pack's text, encoded again")
    assert found["bytes"] == sum(len(text.encode()) for text in texts)
    with pytest.raises(UserError, match="packed with another tokenizer than the model's"):
        run.evaluate(replace(job, model=world.gpt2, tokenizer=world.source_tokenizer, out=job.out / "other"))


def test_step0_settings_do_not_run_it_again(job) -> None:
    other = replace(job, config=replace(job.config, step0_bytes=1))
    assert job.plan().key == other.plan().key
    assert job.plan().key != replace(job, config=replace(job.config, window=8)).plan().key


@pytest.fixture
def two_texts(job, world, tmp_path) -> EvaluateJob:
    """Instead of the pack two named texts, one with parts."""
    rows = [{"text": text, "domain": "ab"[i % 2]} for i, text in enumerate(world.german[:6])]
    (tmp_path / "news.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with lzma.open(tmp_path / "novels.txt.xz", "wt") as file:
        file.write("\n\n".join(world.german[6:9]))
    texts = {"news": [tmp_path / "news.jsonl"], "novels": [tmp_path / "novels.txt.xz"]}
    return replace(job, texts=texts, validation_pack=None, task=None)


def test_named_texts_and_their_union(two_texts, world) -> None:
    run.evaluate(two_texts)
    found = read_json(two_texts.out / "results.json")
    assert list(found["texts"]) == ["news", "novels"]
    assert list(found["texts"]["news"]["parts"]) == ["a", "b"]
    everything = perplexity_of(world.helper, texts=world.german[:9], window=16, bootstrap=0)
    for unit in ("tokens", "bytes", "words", "documents", "bits_per_byte"):
        assert found["perplexity"][unit] == pytest.approx(everything[unit], rel=1e-6)
    assert found["texts"]["novels"]["documents"] == 3 and "parts" not in found["texts"]["novels"]


def test_goes_on_with_the_texts_it_has(two_texts, monkeypatch) -> None:
    measured, score = [], run.score

    def counted(likelihood, text, cutting):
        if text.name == "novels" and len(measured) == 1:
            measured.append("killed")
            raise KeyboardInterrupt
        measured.append(text.name)
        return score(likelihood, text, cutting)

    monkeypatch.setattr(run, "score", counted)
    with pytest.raises(KeyboardInterrupt):
        run.evaluate(two_texts)
    assert not two_texts.out.exists()
    run.evaluate(two_texts)
    assert measured == ["news", "killed", "novels"]
    first = read_json(two_texts.out / "results.json")
    run.evaluate(replace(two_texts, out=two_texts.out.with_name("whole")))
    assert read_json(two_texts.out.with_name("whole") / "results.json") == first
    assert {path.name for path in two_texts.out.iterdir()} == {"results.json", "manifest.json"}


def test_goes_on_after_the_labelled_task(job, monkeypatch) -> None:
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "continuations", killed)
        with pytest.raises(KeyboardInterrupt):
            run.evaluate(job)
    monkeypatch.setattr(run, "domain_task", killed)
    monkeypatch.setattr(run, "score", killed)
    run.evaluate(job)
    assert read_json(job.out / "results.json")["tasks"]["domains"]["documents"] == 24


def test_zero_shot_tasks_join_the_labelled_one(job, monkeypatch, tmp_path) -> None:
    asked = {}

    def zero_shot(model, tokenizer, names, **options):
        asked.update(options, names=names)
        return {name: {"acc": 0.5} for name in names}

    monkeypatch.setattr("clp_transfer.evaluate.zero_shot.zero_shot", zero_shot)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.jsonl").write_text("{}")
    config = replace(job.config, fewshot=2, batch_size=4)
    run.evaluate(replace(job, tasks=["a", "b"], limit=9, data_dir=tmp_path / "data", config=config, cache=tmp_path))
    found = read_json(job.out / "results.json")["tasks"]
    assert list(found) == ["domains", "a", "b"] and found["domains"]["documents"] == 9
    assert asked == {
        "names": ["a", "b"],
        "limit": 9,
        "fewshot": 2,
        "batch_size": 4,
        "seed": 1,
        "data_dir": tmp_path / "data",
        "cache": tmp_path / "tasks",
        "model_key": job.model_key,
    }


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "the text news is empty"),
        ('{"text": ""}\n{"text": "  "}\n', r"the text news is empty.*\(empty: 2\)"),
        ('{"body": "a"}\n', "has no field 'text'"),
    ],
)
def test_texts_without_text_are_refused(two_texts, content, what) -> None:
    two_texts.texts["news"][0].write_text(content)
    with pytest.raises(UserError, match=what):
        run.evaluate(two_texts)


def test_texts_that_are_not_there_or_too_long(two_texts, tmp_path) -> None:
    with pytest.raises(UserError, match=r"texts.x: there is no file .*nowhere.txt"):
        run.evaluate(replace(two_texts, texts={"x": [tmp_path / "nowhere.txt"]}))
    with pytest.raises(UserError, match="max_bytes=5 leaves no whole document"):
        run.evaluate(replace(two_texts, config=replace(two_texts.config, max_bytes=5)))


def test_nan_weights_name_the_document(two_texts, world, tmp_path) -> None:
    model = AutoModelForCausalLM.from_pretrained(world.helper)
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "nan")
    AutoTokenizer.from_pretrained(world.helper).save_pretrained(tmp_path / "nan")
    for windows in ("rolling", "stream"):
        config = replace(two_texts.config, windows=windows)
        with pytest.raises(UserError, match=r"not finite in document \d of news \(counted from 0\)"):
            run.evaluate(replace(two_texts, model=tmp_path / "nan", config=config))


def test_weights_that_are_missing_are_not_drawn(two_texts, world, tmp_path) -> None:
    folder = Path(shutil.copytree(world.helper, tmp_path / "half"))
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"no weights for 1 of its model's tensors, such as .*up_proj"):
        run.evaluate(replace(two_texts, model=folder))


def test_without_a_task(job) -> None:
    run.evaluate(replace(job, task=None, config=replace(job.config, prompts=[])))
    found = read_json(job.out / "results.json")
    assert found["tasks"] == {} and found["samples"] == []


def test_a_tokenizer_larger_than_the_embedding_is_refused(job, world, tmp_path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(world.source, broken)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(world.target_tokenizer / name, broken / name)
    with pytest.raises(UserError, match="the tokenizer has 340 tokens, but the model's embedding has 330 rows"):
        run.evaluate(replace(job, model=broken))
    assert not job.out.exists()


def test_a_folder_without_a_model_is_refused(job, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="empty is not a model folder"):
        run.evaluate(replace(job, model=tmp_path / "empty"))


def test_a_model_without_a_padding_token(job, world, tmp_path) -> None:
    folder = Path(shutil.copytree(world.helper, tmp_path / "nopad"))
    for name, key in (("config.json", "pad_token_id"), ("tokenizer_config.json", "pad_token")):
        values = json.loads((folder / name).read_text())
        values.pop(key)
        (folder / name).write_text(json.dumps(values))
    (folder / "generation_config.json").unlink()
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    run.evaluate(job)
    run.evaluate(replace(job, model=folder, out=tmp_path / "other"))
    assert read_json(tmp_path / "other/results.json") == read_json(job.out / "results.json")


def test_samples_depend_on_the_seed_alone(world) -> None:
    model = AutoModelForCausalLM.from_pretrained(world.helper).train()
    tokenizer = AutoTokenizer.from_pretrained(world.helper)
    state = torch.get_rng_state()
    first = continuations(model, tokenizer, ["der", "die"], tokens=8, eos_id=0, seed=1)
    assert torch.equal(torch.get_rng_state(), state) and model.training
    torch.manual_seed(99)
    assert continuations(model, tokenizer, ["der"], tokens=8, eos_id=0, seed=1) == first[:1]
    assert continuations(model, tokenizer, ["der", "die"], tokens=8, eos_id=0, seed=2) != first
    assert not any(sample["text"].startswith("der") for sample in first[:1])


def test_samples_stay_within_the_context(world, tokenizer) -> None:
    model = AutoModelForCausalLM.from_pretrained(world.gpt2)  # it has no position beyond 64: one more would fail
    lengths = []
    model.register_forward_hook(lambda *_: lengths.append(1))
    continuations(model, tokenizer, ["abc"], tokens=500, eos_id=0, seed=1)
    assert 1 <= len(lengths) <= 64
    with pytest.raises(UserError, match="the model's context 64"):
        continuations(model, tokenizer, ["x" * 99], tokens=8, eos_id=0, seed=1)
