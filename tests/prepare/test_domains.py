from __future__ import annotations

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.domains import is_labelled, label_of, take_task, task_statistics
from clp_transfer.prepare.job import DomainTaskConfig


@pytest.mark.parametrize(
    ("gloss", "label"),
    [
        ("Medizin: Entzündung", "Medizin"),
        ("Zoologie, Ornithologie: ein Vogel", "Zoologie, Ornithologie"),
        ("Botanik, speziell Blütenbau: mit: Kelch", "Botanik, speziell Blütenbau"),
        ("Ökologie: x", "Ökologie"),
        ("umgangssprachlich: im Irrtum sein", None),
        ("kurz für: Trödelmarkt", None),
        ("Wort, das etwas bedeutet", None),
        ("Verhältnis 1:2", None),
        ("Gegenstände ohne Wert, die selten gebraucht werden, und noch mehr davon, auch: Plunder", None),
    ],
)
def test_labels(gloss: str, label: str | None):
    assert label_of(gloss) == label


def entry(word: str, *glosses: str) -> Document:
    return Document(word, f"{word}: {'; '.join(glosses)}", glosses)


DOCUMENTS = [
    entry("A", "Medizin: eins"),
    entry("B", "zwei"),
    entry("C", "drei", "Sport: vier"),
    entry("D", "Sport: fünf", "sechs"),
    entry("E", "Sport, speziell Tennis: sieben"),
    entry("F", "Musik: acht"),
    entry("G", "Medizin: neun"),
]


def test_labelled_entries_leave_the_corpus_and_only_exact_labels_are_tested():
    task = take_task(DOCUMENTS, DomainTaskConfig("de", ["Sport", "Medizin"], 3), seed=1)
    assert [d.id for d in DOCUMENTS if not is_labelled(d)] == ["B"]
    assert task.kept_out == 6
    assert sorted(task.items) == [("A: eins", 1), ("D: fünf", 0), ("G: neun", 1)]
    numbers = task_statistics(task, ["Sport", "Medizin"])
    assert numbers == {
        "documents": 3,
        "counts": {"Sport": 1, "Medizin": 2},
        "majority": 2 / 3,
        "random": 0.5,
        "kept_out": 6,
    }


def test_the_choice_depends_on_the_texts_alone():
    config = DomainTaskConfig("de", ["Sport", "Medizin"], 2)
    assert take_task(DOCUMENTS, config, 1).items == take_task(DOCUMENTS[::-1], config, 1).items


def test_too_few_labelled_entries_are_refused():
    with pytest.raises(UserError, match=r"3 entries labelled Sport, Medizin, domain_task\.documents=4"):
        take_task(DOCUMENTS, DomainTaskConfig("de", ["Sport", "Medizin"], 4), 1)
