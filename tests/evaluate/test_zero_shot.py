"""Rows against our own float64 sums; what is kept, gone on with, tried again and told."""

from __future__ import annotations

import json
import math

import pytest
import torch
from tiny import task_data
from tiny.processes import run_ranks
from tiny.zero_shot_ranks import measure
from transformers import AutoModelForCausalLM, AutoTokenizer

from clp_transfer.errors import UserError
from clp_transfer.evaluate import zero_shot as module
from clp_transfer.evaluate.task_rows import NotFiniteError, check_finite
from clp_transfer.evaluate.zero_shot import summary, zero_shot

CHOICE = list(task_data.GOLDEN)


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    """A Llama with a context of 512 and weights large enough for its predictions to differ from uniform."""
    out = tmp_path_factory.mktemp("zero-shot") / "model"
    model = AutoModelForCausalLM.from_pretrained(world.source)
    model.config.max_position_embeddings = 512
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.15 * torch.randn_like(parameter)
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(world.source).save_pretrained(out)
    return out


@pytest.fixture
def llama(folder):
    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.fixture
def data_dir(tmp_path):
    return task_data.write(tmp_path / "data")


@pytest.fixture
def measured(llama, tokenizer, data_dir, tmp_path):
    """`zero_shot` with the options of the tests; calls of the model are counted in `calls`."""

    def call(names, model=llama, **changes):
        options = {"data_dir": data_dir, "limit": None, "fewshot": 0, "batch_size": 3, "cache": tmp_path / "cache"}
        return zero_shot(model, tokenizer, names, **(options | {"model_key": "tiny", "seed": 0} | changes))

    call.calls = 0

    def count(*_):
        call.calls += 1

    llama.register_forward_hook(count)
    return call


def sums(model, tokenizer, context, continuation) -> float:
    """log p(continuation | context) in float64; spaces at the context's end count with the continuation."""
    begin = tokenizer(context.rstrip(), add_special_tokens=False)["input_ids"] if context else [0]
    whole = tokenizer(context + continuation, add_special_tokens=False)["input_ids"]
    whole = whole if context else [0, *whole]
    assert whole[: len(begin)] == begin
    with torch.no_grad():
        logs = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return sum(float(logs[i - 1, whole[i]]) for i in range(len(begin), len(whole)))


def requests(name, document):
    """(prompt, answers, cue, the answers after the cue), written out."""
    if name == "clp_xnli_de":
        first, second, words = document["premise"], document["hypothesis"], ["Ja", "Auch", "Nein"]
    elif name == "clp_pawsx_de":
        first, second, words = document["sentence1"], document["sentence2"], ["Nein", "Ja"]
    else:
        golden = task_data.GOLDEN[name]
        prompt = golden[0][0]
        original = task_data.FILES[FILE[name]][0]
        for field, text in original.items():
            if field in document and isinstance(text, str):
                prompt = prompt.replace(text, document[field])
        answers = [answer for _, answer in golden]
        return prompt, answers, prompt.split("\n\n")[-1], answers
    return (
        "",
        [f"{first}, richtig? {word}, {second}" for word in words],
        "richtig?",
        [f" {word}, {second}" for word in words],
    )


FILE = {
    "clp_germeval2017": "germeval2017_test_syn",
    "clp_germeval2018_coarse": "germeval2018_test",
    "clp_germeval2018_fine": "germeval2018_test",
    "clp_gnad10": "gnad10_test",
    "clp_xnli_de": "xnli_de_test",
    "clp_pawsx_de": "pawsx_de_test",
    "clp_xstance_de": "xstance_de_test",
}


def first_best(values) -> int:
    return values.index(max(values))


def test_accuracies_equal_our_own_sums(measured, llama, tokenizer, data_dir) -> None:
    from clp_transfer.evaluate.tasks import data

    rows = measured(CHOICE)
    for name in CHOICE:
        hits = {"acc": [], "acc_pmi": [], "acc_length_normalised": []}
        for document in data.load(name.removeprefix("clp_"), str(data_dir))["test"]:
            prompt, answers, cue, after = requests(name, document)
            plain = [sums(llama, tokenizer, prompt, answer) for answer in answers]
            alone = [sums(llama, tokenizer, cue, answer) for answer in after]
            per_byte = [score / len(a.strip().encode()) for score, a in zip(plain, answers, strict=True)]
            hits["acc"].append(first_best(plain) == document["label"])
            hits["acc_pmi"].append(first_best([a - b for a, b in zip(plain, alone, strict=True)]) == document["label"])
            hits["acc_length_normalised"].append(first_best(per_byte) == document["label"])
        for metric, found in hits.items():
            share = sum(found) / len(found)
            assert rows[name][metric] == pytest.approx(share), (name, metric)
            error = rows[name][metric.replace("acc", "stderr")]
            assert error == pytest.approx(math.sqrt(share * (1 - share) / (len(found) - 1)))


def test_rows_say_what_they_should(measured) -> None:
    rows = measured(["clp_german"], limit=3)
    assert list(rows) == ["clp_oscar_ppl_de", *CHOICE]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    coarse = rows["clp_germeval2018_coarse"]
    assert (coarse["documents"], coarse["random"], coarse["labels"]) == (3, 0.5, ["Sonstiges", "Beleidigung"])
    assert coarse["majority"] == pytest.approx(2 / 3) and coarse["distinguishable"] is False
    assert (coarse["fewshot"], coarse["limit"], coarse["error"]) == (0, 3, None)
    averages = [rows[name]["average"] for name in CHOICE]
    assert averages == ["micro", "binary", "macro", "macro", None, "macro", "macro"]
    assert rows["clp_xnli_de"]["f1"] is None and rows["clp_xnli_de"]["random"] == pytest.approx(1 / 3)
    micro = rows["clp_germeval2017"]
    assert micro["precision"] == micro["recall"] == micro["f1"] == micro["acc"]
    assert {"word_perplexity", "byte_perplexity", "bits_per_byte", "documents"} < rows["clp_oscar_ppl_de"].keys()


def test_perplexity_equals_our_own(measured, llama, tokenizer) -> None:
    row = measured(["clp_oscar_ppl_de"])["clp_oscar_ppl_de"]
    texts = [row["text"] for row in task_data.FILES["oscar_ppl_de_test"]]
    nats = -sum(sums(llama, tokenizer, "", text) for text in texts)
    size = sum(len(text.encode()) for text in texts)
    assert row["bits_per_byte"] == pytest.approx(nats / size / math.log(2), rel=1e-5)
    assert row["word_perplexity"] == pytest.approx(math.exp(nats / 9), rel=1e-4)


def in_windows(model, tokenizer, text, window) -> float:
    """Disjoint windows of new tokens, each with as much before it as fits, in float64."""
    ids = [0, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    total = 0.0
    for start in range(1, len(ids), window):
        stop = min(start + window, len(ids))
        begin = max(0, stop - 1 - window)
        with torch.no_grad():
            logs = model(torch.tensor([ids[begin : stop - 1]])).logits[0].double().log_softmax(-1)
        total += sum(float(logs[i - 1 - begin, ids[i]]) for i in range(start, stop))
    return total


@pytest.mark.parametrize("batch_size", [1, 4])
def test_texts_longer_than_the_context_are_read_in_windows(world, tokenizer, batch_size) -> None:
    """64 positions, 200 tokens; and a word again and again, whose windows are equal but count different parts."""
    from lm_eval.api.instance import Instance

    from clp_transfer.evaluate.task_model import TaskModel

    model = AutoModelForCausalLM.from_pretrained(world.gpt2).eval()
    lm = TaskModel(model, tokenizer, batch_size)
    texts = ["Mädchen fährt über grün " * 8, "kurz", "Straße " * 30]
    assert len(tokenizer(texts[0])["input_ids"]) > 2 * lm.max_length
    pairs = [Instance("loglikelihood", {}, ("", text), 0, metadata=("t", 0, 1)) for text in texts]
    whole = [Instance("loglikelihood_rolling", {}, (text,), 0, metadata=("t", 0, 1)) for text in texts]
    expected = [in_windows(model, tokenizer, text, 64) for text in texts]
    assert [score for score, _ in lm.loglikelihood(pairs)] == pytest.approx(expected)
    assert lm.loglikelihood_rolling(whole) == pytest.approx(expected)


def test_answers_without_the_document_are_computed_once(measured) -> None:
    measured(["clp_germeval2018_coarse"], batch_size=1, limit=1)
    one = measured.calls
    measured.calls = 0
    measured(["clp_germeval2018_coarse"], batch_size=1, limit=3)
    # An answer of n tokens is one pass, or shares it; the two answers of the cue alone are the same passes for all.
    assert 0 < measured.calls - one <= 2 * 2


def test_finished_rows_are_kept(measured, data_dir, tmp_path) -> None:
    first = measured(["clp_gnad10", "clp_xnli_de"])
    measured.calls = 0
    assert measured(["clp_xnli_de", "clp_gnad10"], batch_size=1, seed=1) == first  # nothing is drawn by the seed
    assert measured.calls == 0
    changes = [{"limit": 1}, {"model_key": "other"}]
    for change in changes:
        measured.calls = 0
        measured(["clp_gnad10"], **change)
        assert measured.calls > 0, change
    path = data_dir / "gnad10_test.jsonl"
    path.write_text(path.read_text() + '{"text": "mehr", "label": 0}\n')
    assert measured(["clp_gnad10"])["clp_gnad10"]["documents"] == 3
    assert not list((tmp_path / "cache").glob("*.requests"))


def test_code_is_part_of_the_version(monkeypatch, tmp_path) -> None:
    from clp_transfer.evaluate import task_names

    before = task_names.version("clp_gnad10"), task_names.version("clp_xnli_de")
    assert before[0] != before[1] and before[0].startswith("1.0+")
    read = type(task_names.TASKS).read_bytes
    changed = "scores.py"
    monkeypatch.setattr(type(task_names.TASKS), "read_bytes", lambda path: read(path) + b" " * (path.name == changed))
    assert task_names.version("clp_gnad10") != before[0]


def test_an_interrupted_task_goes_on(measured, llama, tmp_path) -> None:
    expected = measured(["clp_gnad10"], cache=tmp_path / "whole", batch_size=1)
    whole, measured.calls = measured.calls, 0

    class Stop(BaseException):
        pass

    def stop(*_):
        if measured.calls >= whole - 3:
            raise Stop

    handle = llama.register_forward_pre_hook(stop)
    with pytest.raises(Stop):
        measured(["clp_gnad10"], batch_size=1)
    handle.remove()
    (answers,) = (tmp_path / "cache").glob("*.requests")
    answers.write_bytes(answers.read_bytes() + b'["cut o')  # as a killed process may leave it
    measured.calls = 0
    assert measured(["clp_gnad10"], batch_size=1) == expected
    assert 0 < measured.calls <= 4
    assert not list((tmp_path / "cache").glob("*.requests"))


def test_rows_say_what_they_were_computed_in(measured, llama) -> None:
    for dtype in ("float32", "bfloat16", "bfloat16"):  # the last one from the cache
        assert measured(["clp_pawsx_de"], llama.to(getattr(torch, dtype)))["clp_pawsx_de"]["dtype"] == dtype


def test_a_failing_task_keeps_the_others(measured, data_dir) -> None:
    (data_dir / "xnli_de_test.jsonl").unlink()
    rows = measured(["clp_xnli_de", "clp_pawsx_de"])
    assert rows["clp_xnli_de"]["error"].endswith("xnli_de_test.jsonl does not exist")
    assert rows["clp_pawsx_de"]["error"] is None and rows["clp_pawsx_de"]["documents"] == 2
    assert "not measured" in summary(rows["clp_xnli_de"])
    task_data.write(data_dir)
    assert measured(["clp_xnli_de"])["clp_xnli_de"]["error"] is None  # a failure is not kept


def test_data_of_the_hub_that_cannot_be_had(measured, monkeypatch) -> None:
    import datasets

    def gated(path, **_):
        raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{path}' is a gated dataset on the Hub.\nMore.")

    monkeypatch.setattr(datasets, "load_dataset", gated)
    rows = measured(["clp_gnad10"], data_dir=None)
    expected = "Dataset 'community-datasets/gnad10' is a gated dataset on the Hub."
    assert rows["clp_gnad10"]["error"] == expected and "acc" not in rows["clp_gnad10"]


def test_memory_that_is_too_small_fails_one_task(measured, monkeypatch) -> None:
    run = module._run

    def failing(name, *rest):
        if name == "clp_gnad10":
            raise torch.OutOfMemoryError("out of memory")
        return run(name, *rest)

    monkeypatch.setattr(module, "_run", failing)
    rows = measured(["clp_gnad10", "clp_pawsx_de"])
    assert rows["clp_gnad10"]["error"] == "OutOfMemoryError: out of memory"
    assert rows["clp_pawsx_de"]["error"] is None


def test_log_likelihoods_that_are_not_finite(measured, llama, tokenizer, tmp_path) -> None:
    row = tokenizer("Wien")["input_ids"][-1]
    with torch.no_grad():
        llama.get_input_embeddings().weight[row] = float("nan")
    error = measured(["clp_gnad10"])["clp_gnad10"]["error"]
    assert "is nan" in error and "of document " in error
    assert not list((tmp_path / "cache").iterdir())
    samples = [{"doc_id": i, "filtered_resps": [(-1.0, False), (v, False)]} for i, v in enumerate((-2.0, -math.inf))]
    with pytest.raises(NotFiniteError, match=r"document 1 \(counted from 0\) is -inf"):
        check_finite(samples)


def test_few_shot_examples_come_from_training_documents(measured, monkeypatch) -> None:
    from clp_transfer.evaluate.task_model import TaskModel

    seen = []
    ask = TaskModel.loglikelihood

    def record(self, asked, **options):
        seen.extend(request.args for request in asked)
        return ask(self, asked, **options)

    monkeypatch.setattr(TaskModel, "loglikelihood", record)
    rows = measured(["clp_germeval2017", "clp_pawsx_de", "clp_oscar_ppl_de"], fewshot=1, limit=1)
    assert seen[0] == ("schön\n\nBewertung: gut\n\nDie Bahn ist gut\n\nBewertung:", " gut")
    assert seen[3] == ("Bewertung:", " gut")
    # Label 1 is a paraphrase: "Ja", where the paper's harness would have written "Nein".
    assert seen[6] == ("Haus, richtig? Ja, Haus\n\n", "Der Baum., richtig? Nein, Ein Baum.")
    assert [row["fewshot"] for row in rows.values()] == [1, 1, 0]
    assert all(row["error"] is None for row in rows.values())
    with pytest.raises(UserError, match=r"clp_gnad10: fewshot=1 needs training documents, .*gnad10_train\.jsonl"):
        measured(["clp_pawsx_de", "clp_gnad10"], fewshot=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limit": 0}, "limit=0 makes no sense"),
        ({"fewshot": -1}, "fewshot=-1 makes no sense"),
        ({"batch_size": 0}, "batch_size=0 makes no sense"),
    ],
)
def test_numbers_that_make_no_sense(measured, change, message) -> None:
    with pytest.raises(UserError, match=message):
        measured(["clp_gnad10"], **change)


def test_bad_data_stop_everything_before_it_begins(measured, data_dir, tmp_path) -> None:
    (data_dir / "pawsx_de_test.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "label": 2}\n')
    with pytest.raises(UserError, match=r"pawsx_de_test\.jsonl, line 1: label is 2, not 0 to 1"):
        measured(["clp_gnad10", "clp_pawsx_de"])
    assert measured.calls == 0
    with pytest.raises(UserError, match="is not a folder"):
        measured(["clp_gnad10"], data_dir=tmp_path / "nowhere")


def test_the_callers_state_is_put_back(measured, llama) -> None:
    import random

    llama.train()
    state = random.getstate()
    measured(["clp_gnad10"])
    assert llama.training and random.getstate() == state


def test_an_upstream_task(measured, monkeypatch) -> None:
    """multiblimp_deu over a made data set: its metrics by name, no majority where choices are the documents' own."""
    import datasets

    made = datasets.Dataset.from_list([{"sen": f"{n} Hunde sind", "wrong_sen": f"{n} Hunde ist"} for n in range(2, 6)])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train": made})
    row = measured(["multiblimp_deu"], fewshot=2)["multiblimp_deu"]
    assert row["acc"] == row["acc,none"] and 0 <= row["acc_norm,none"] <= 1
    assert (row["random"], row["majority"], row["documents"], row["fewshot"]) == (0.5, None, 4, 0)
    assert row["version"].startswith("lm_eval ") and json.dumps(row, allow_nan=False)


def test_ranks_share_the_documents(folder, data_dir, tmp_path) -> None:
    # Three documents on two ranks; windows of unequal number in the rolling task; one document for two ranks.
    names = ["clp_germeval2018_fine", "clp_xnli_de", "clp_oscar_ppl_de", "clp_germeval2017"]
    (data_dir / "germeval2017_test_syn.jsonl").write_text('{"text": "eins", "sentiment": "neutral"}\n')
    (data_dir / "xnli_de_test.jsonl").unlink()
    for count in (1, 2):
        (tmp_path / str(count)).mkdir()
    measure(folder, data_dir, tmp_path / "1", names, None)
    assert run_ranks(2, measure, folder, data_dir, tmp_path / "2", names, None) == [0, 0]
    alone, first, second = (json.loads((tmp_path / file).read_text()) for file in ("1/0.json", "2/0.json", "2/1.json"))
    assert first == second
    assert first["clp_xnli_de"]["error"].endswith("does not exist")
    for name in names:
        assert first[name].keys() == alone[name].keys()
        for metric, value in alone[name].items():
            is_number = isinstance(value, float)
            assert first[name][metric] == (pytest.approx(value, rel=1e-6) if is_number else value), (name, metric)
