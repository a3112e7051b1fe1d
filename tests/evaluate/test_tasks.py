"""The paper's task files, used as anybody would use them, without our code: requests to the character, scores, data."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path

import pytest
from tiny import task_data

from clp_transfer.errors import UserError
from clp_transfer.evaluate import task_names
from clp_transfer.evaluate.tasks import data, scores

TASKS = task_names.TASKS


class Recorder:
    """Built on first use: importing the harness takes seconds."""

    def __new__(cls, answer=lambda context, continuation: -1.0):
        from lm_eval.api.model import LM

        class Fake(LM):
            def __init__(self):
                super().__init__()
                self.seen = []

            def loglikelihood(self, requests):
                self.seen += [request.args for request in requests]
                return [(answer(*request.args), False) for request in requests]

            def loglikelihood_rolling(self, requests):
                self.seen += [request.args for request in requests]
                return [-float(len(request.args[0])) for request in requests]

            def generate_until(self, requests):
                raise NotImplementedError

        return Fake()


def run(name, folder, lm, **options):
    from lm_eval import evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=TASKS, include_defaults=False, metadata={"data_dir": str(folder)})
    results = evaluate(lm=lm, task_dict=manager.load([name]), bootstrap_iters=1, **options)
    return results["results"][name], results["samples"][name]


@pytest.fixture
def folder(tmp_path) -> Path:
    return task_data.write(tmp_path / "data")


@pytest.mark.parametrize("name", task_data.GOLDEN)
def test_requests_to_the_character(folder, name) -> None:
    lm = Recorder()
    run(name, folder, lm, limit=1)
    assert lm.seen == task_data.GOLDEN[name]


def test_double_space_before_the_answer() -> None:
    for name in ("clp_germeval2018_coarse", "clp_germeval2018_fine", "clp_gnad10", "clp_xstance_de"):
        assert all(re.search(r"\): {2}\w+$", "".join(pair)) for pair in task_data.GOLDEN[name])


def test_text_is_not_a_template(folder) -> None:
    lm = Recorder()
    run("clp_germeval2018_coarse", folder, lm, limit=2)
    assert lm.seen[2][0].startswith("Tweet (Beleidigung, Sonstiges): Haus {{text}}\n\n")


def test_perplexity_counts_words_as_the_paper(folder) -> None:
    lm = Recorder()
    found, _ = run("clp_oscar_ppl_de", folder, lm)
    texts = [row["text"] for row in task_data.FILES["oscar_ppl_de_test"]]
    assert lm.seen == [(text,) for text in texts]
    nats = sum(map(len, texts))
    words, size = 6 + 3, sum(len(text.encode()) for text in texts)  # a space at an end makes an empty word
    assert words == sum(len(re.split(r"\s+", text)) for text in texts)
    assert found["word_perplexity,none"] == pytest.approx(math.exp(nats / words))
    assert found["byte_perplexity,none"] == pytest.approx(math.exp(nats / size))
    assert found["bits_per_byte,none"] == pytest.approx(nats / size / math.log(2))


def test_largest_sum_wins_whatever_its_length(folder) -> None:
    found, samples = run("clp_gnad10", folder, Recorder(lambda _, answer: -float(answer.strip() != "Wissenschaft")))
    assert [sample["precision"] for sample in samples] == [(4, 7), (5, 7)]
    assert found["acc,none"] == 0


def test_germeval2017_keeps_what_the_paper_keeps_and_ties_are_neutral(folder) -> None:
    tied = {" gut": -1.0, " schlecht": -1.0, " neutral": -2.0}
    found, samples = run("clp_germeval2017", folder, Recorder(lambda _, answer: tied[answer]))
    assert [sample["doc"]["label"] for sample in samples] == [0, 1, 2]  # irrelevant kept; no text, other labels not
    assert [sample["f1"][1] for sample in samples] == [2, 2, 2]
    assert found["f1,none"] == found["acc,none"] == pytest.approx(1 / 3)
    one = {" gut": -1.0, " schlecht": -0.5, " neutral": -2.0}
    assert [s["f1"][1] for s in run("clp_germeval2017", folder, Recorder(lambda _, a: one[a]))[1]] == [1, 1, 1]


def test_pawsx_is_yes_only_where_yes_is_likelier(folder) -> None:
    for yes, chosen in ((-1.0, 1), (-2.0, 0), (-3.0, 0)):
        lm = Recorder(lambda _, text, yes=yes: yes if "richtig? Ja" in text else -2.0)
        _, samples = run("clp_pawsx_de", folder, lm)
        assert [sample["f1"] for sample in samples] == [(1, chosen), (0, chosen)]


def naive(pairs, average):
    """Precision, recall, F1 by counting."""
    labels = sorted({label for pair in pairs for label in pair})

    def one(label):
        hit = sum(right == chosen == label for right, chosen in pairs)
        said, there = sum(c == label for _, c in pairs), sum(r == label for r, _ in pairs)
        precision, recall = hit / said if said else 0, hit / there if there else 0
        return precision, recall, 2 * precision * recall / (precision + recall) if hit else 0

    if average == "binary":
        return one(1)
    if average == "micro":
        return (sum(right == chosen for right, chosen in pairs) / len(pairs),) * 3
    return tuple(sum(one(label)[part] for label in labels) / len(labels) for part in range(3))


@pytest.mark.parametrize("average", ["micro", "macro", "binary"])
@pytest.mark.parametrize(
    "pairs",
    [[(0, 0), (1, 0), (1, 1), (0, 1), (1, 1)], [(0, 0), (0, 0)], [(1, 0), (1, 0), (0, 0)], [(0, 1), (1, 0)]],
)
def test_precision_recall_f1(average, pairs) -> None:
    if average != "binary":
        pairs = [*pairs, (2, 0), (2, 2), (3, 1)]
    found = [getattr(scores, f"{average}_{name}")(pairs) for name in ("precision", "recall", "f1")]
    assert found == pytest.approx(naive(pairs, average))


def test_averages_are_those_of_the_paper(folder) -> None:
    answers = {" Sonstiges": -1.0, " Beleidigung": -0.5}
    coarse, samples = run("clp_germeval2018_coarse", folder, Recorder(lambda _, a: answers[a]))
    pairs = [tuple(sample["f1"]) for sample in samples]
    assert pairs == [(1, 1), (0, 1), (1, 1)]
    assert [coarse[f"{n},none"] for n in ("precision", "recall", "f1")] == pytest.approx(naive(pairs, "binary"))
    fine, samples = run("clp_germeval2018_fine", folder, Recorder(lambda _, a: answers.get(a, -2.0)))
    pairs = [tuple(sample["f1"]) for sample in samples]
    assert pairs == [(1, 1), (0, 1), (3, 1)]
    assert [fine[f"{n},none"] for n in ("precision", "recall", "f1")] == pytest.approx(naive(pairs, "macro"))


def test_task_files_say_the_same_thing_twice(folder) -> None:
    """Cue and labels, which our rows need, are those of the prompt and the choices."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=TASKS, include_defaults=False, metadata={"data_dir": str(folder)})
    for name in task_data.GOLDEN:
        task = manager.load([name])["tasks"][name]
        about, document = task.config.metadata, task.eval_docs[0]
        text, choices = task.doc_to_text(document), task.doc_to_choice(document)
        assert text.rpartition("\n\n")[2] == about["cue"] if text else all(about["cue"] in c for c in choices)
        if text:
            assert choices == [f" {label}" for label in about["labels"]]
        else:
            assert [f"richtig? {label}, " in c for label, c in zip(about["labels"], choices, strict=True)] == [
                True for _ in choices
            ]
        assert len(choices) == len(data.SOURCES[name.removeprefix("clp_")].values)
        assert task.config.num_fewshot == 0 and task.config.target_delimiter == ""


def test_files_need_nothing_of_ours() -> None:
    for path in TASKS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith(("clp_transfer", "."))]


def test_groups_and_nearest_names() -> None:
    ours = task_names.expand(["clp_german", "clp_gnad10"])
    assert set(ours) == {"clp_oscar_ppl_de", *task_data.GOLDEN} and len(ours) == 8
    modern = task_names.expand(["clp_german_modern"])  # raises for a name that the pinned version does not have
    assert len(modern) == 10 + 6 + 3 and "global_mmlu_de_stem" in modern and "xquad_de" in modern
    with pytest.raises(UserError, match=r"no task 'clp_gnad'\n.*did you mean clp_gnad10, "):
        task_names.expand(["clp_gnad"])
    with pytest.raises(UserError, match=r"did you mean .*hellaswag_de"):
        task_names.expand(["hellaswagde"])
    with pytest.raises(UserError, match="no task 'clp_domains'"):
        task_names.expand(["clp_domains"])


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ("gnad10", "{", r"gnad10_test\.jsonl, line 3: not JSON"),
        ("gnad10", "", r"line 3: not JSON"),
        ("gnad10", "[1]", r"line 3: a JSON object is expected"),
        ("gnad10", '{"text": "a"}', r"line 3: the field 'label' is missing"),
        ("gnad10", '{"text": null, "label": 1}', r"line 3: the field 'text' is None, a text"),
        ("gnad10", '{"text": "a", "label": 9}', r"line 3: label is 9, not 0 to 8"),
        ("gnad10", '{"text": "a", "label": -1}', r"line 3: label is -1"),
        ("gnad10", '{"text": "a", "label": true}', r"line 3: label is True"),
        ("xnli_de", '{"premise": "a", "label": 1}', r"line 3: the field 'hypothesis' is 'missing'"),
        ("germeval2018_coarse", '{"text": "a", "binary": "INSULT"}', r"line 4: binary is 'INSULT', .*OTHER, OFFENSE"),
    ],
)
def test_broken_documents_are_named(folder, source, line, message) -> None:
    path = data.local_file(source, "test", folder)
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(data.DataError, match=message):
        data.load(source, str(folder))


def test_line_separators_inside_a_text(folder) -> None:
    path = folder / "gnad10_test.jsonl"
    path.write_text('{"text": "a\u2028b\u0085c", "label": "Sport"}\n', encoding="utf-8")
    assert list(data.load("gnad10", str(folder))["test"]) == [{"text": "a\u2028b\u0085c", "label": 4}]
    path.write_text("")
    with pytest.raises(data.DataError, match="gnad10_test: no usable document"):
        data.load("gnad10", str(folder))


def test_training_documents(folder) -> None:
    splits = data.load("germeval2017", str(folder), train=True)
    assert list(splits["train"]) == [{"text": "schön", "label": 0}]  # relevant ones only
    with pytest.raises(FileNotFoundError, match=r"gnad10_train\.jsonl does not exist"):
        data.load("gnad10", str(folder), train=True)


def test_the_hub_is_asked_for_these(monkeypatch) -> None:
    import datasets

    asked = []

    def load_dataset(**options):
        asked.append((options["path"], options["split"], options.get("name"), options.get("data_files")))
        fields = {"text": "a", "premise": "a", "hypothesis": "b", "sentence1": "a", "sentence2": "b"}
        fields |= {"question": "a", "comment": "b", "label": 1, "sentiment": "positive", "relevance": "True"}
        return [fields | {"binary": "OFFENSE", "multi": "ABUSE"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for source in data.SOURCES:
        documents = data.load(source, train=source != "oscar_ppl_de")
        assert set(documents) == ({"test", "train"} if source != "oscar_ppl_de" else {"test"})
    tests = [(path, name, files) for path, split, name, files in asked if split == "test"]
    assert tests == [
        ("malteos/wechsel_de", None, {"test": "valid.random_1636.json.gz"}),
        ("malteos/germeval2017", None, {"test": "test_syn-2017-09-15.csv"}),
        ("philschmid/germeval18", None, None),
        ("philschmid/germeval18", None, None),
        ("community-datasets/gnad10", None, None),
        ("facebook/xnli", "de", None),
        ("google-research-datasets/paws-x", "de", None),
        ("strombergnlp/x-stance", None, {"test": "de/test/*.parquet"}),
    ]
