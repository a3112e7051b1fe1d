"""Tasks and texts as evaluations write them: with labels, with perplexity, failed, and by text."""

from __future__ import annotations

import pytest
from scipy import stats

from clp_transfer.report.assemble import assemble
from clp_transfer.report.collect import collect
from clp_transfer.report.run import report

pytestmark = pytest.mark.usefixtures("no_figures")

POINTS = [(0, 3.0), (1000, 2.0)]


def row(acc: float, **more) -> dict:
    return {"acc": acc, "stderr": 0.01, "documents": 400, "random": 0.5, "majority": 0.6, "labels": ["a", "b"], **more}


def results_of(folders) -> dict:
    return assemble(folders.job(), collect(folders.job()))


def test_all_that_a_row_may_have(folders) -> None:
    full = {
        "precision": 0.7,
        "recall": 0.6,
        "f1": 0.65,
        "average": "macro",
        "acc_pmi": 0.66,
        "fewshot": 3,
        "limit": 400,
    }
    task = row(0.7, acc_length_normalised=0.71, distinguishable=True, error=None, **full)
    folders.arm("scratch", POINTS, tasks={"pawsx_de": task})
    report(folders.job())
    page = (folders.root / "report/index.html").read_text()
    for shown in ("F1 (macro)", "length-normalised", "0.710", "PMI", "0.660", "3 examples", "the first 400 only"):
        assert shown in page, shown
    written = (folders.root / "report/tables/task-pawsx-de.md").read_text()
    assert "| scratch | 0.700 ± 0.010 | 0.710 | 0.660 | 0.700 | 0.600 | 0.650 |" in written


@pytest.mark.parametrize(("acc", "able"), [(0.6 + 0.0195, False), (0.6 + 0.0197, True), (0.55, False)])
def test_inside_the_interval_of_its_baseline(folders, acc, able) -> None:
    """Without the evaluation's own word: 1.96 standard errors (of 0.01) above the better baseline, 0.6."""
    folders.arm("scratch", POINTS, tasks={"t": row(acc)})
    assert results_of(folders)["tasks"]["t"]["scratch"]["distinguishable"] is able
    report(folders.job())
    page = (folders.root / "report/index.html").read_text()
    assert ("not distinguishable from chance" in page) is not able


def test_a_task_without_a_baseline_and_the_harness_own_metrics(folders) -> None:
    folders.arm("scratch", POINTS, tasks={"t": {"exact_match,none": 0.25, "exact_match_stderr,none": 0.1}})
    report(folders.job())
    page = (folders.root / "report/index.html").read_text()
    assert "exact_match" in page and "0.250" in page and "There is no baseline here" in page
    assert "not distinguishable" not in page


def test_accuracies_by_other_scores_are_held_against_chance_too(folders) -> None:
    ways = {"acc_pmi": 0.61, "distinguishable_pmi": False, "acc_length_normalised": 0.8}
    task = row(0.9, distinguishable=True, distinguishable_length_normalised=True, **ways)
    folders.arm("scratch", POINTS, tasks={"t": task})
    report(folders.job())
    page = (folders.root / "report/index.html").read_text()
    assert page.count("≈ chance") == 1
    assert "| 0.800 | 0.610\\* |" in (folders.root / "report/tables/task-t.md").read_text()


def test_an_arm_that_failed_is_told_and_the_others_stay(folders) -> None:
    folders.arm("scratch", POINTS, tasks={"t": {"acc": None, "error": "no data <here>"}})
    folders.arm("ridge", POINTS, tasks={"t": row(0.8, distinguishable=True)})
    task = results_of(folders)["tasks"]["t"]
    assert task["scratch"] == {"error": "no data <here>"} and task["documents"] == 400
    report(folders.job())
    page = (folders.root / "report/index.html").read_text()
    assert "not measured: no data &lt;here&gt;" in page
    assert "Every arm does better than guessing" in page


def test_a_task_that_nobody_could_do(folders) -> None:
    folders.arm("scratch", POINTS, tasks={"t": {"error": "gone"}})
    report(folders.job())
    assert "No arm could be measured on this task." in (folders.root / "report/index.html").read_text()


def test_a_perplexity_task(folders) -> None:
    task = {"word_perplexity": 44.4, "byte_perplexity": 1.8, "bits_per_byte": 0.85, "documents": 1636, "error": None}
    folders.arm("scratch", POINTS, tasks={"oscar": task})
    folders.arm("ridge", POINTS, tasks={"oscar": {**task, "bits_per_byte": 0.8}})
    report(folders.job())
    page = (folders.root / "report/index.html").read_text()
    assert "44.400" in page and "accuracy" not in page
    lines = (folders.root / "report/tables/task-oscar.md").read_text().splitlines()
    assert lines[4].startswith("| ridge ") and lines[5].startswith("| scratch "), "best first"


def test_texts_by_seed_and_by_document(folders) -> None:
    for seed, bits in ((1, 1.0), (2, 1.2)):
        folders.arm("scratch", POINTS, seed, texts={"court": {"bits_per_byte": bits}})
    folders.arm("ridge", POINTS, texts={"court": {"bits_per_byte": 0.9, "intervals": {"bits_per_byte": [0.8, 1.0]}}})
    found = results_of(folders)["texts"]["court"]
    expected = stats.t.interval(0.95, 1, loc=1.1, scale=stats.sem([1.0, 1.2]))
    assert found["scratch"]["intervals"]["bits_per_byte"] == pytest.approx(expected)
    assert (found["scratch"]["interval_over"], found["ridge"]["interval_over"]) == ("seeds", "documents")
    report(folders.job())
    page = (folders.root / "report/index.html").read_text()
    assert "0.800 to 1.000" in page
    assert "| ridge | 0.900 (0.800 to 1.000) |" in (folders.root / "report/tables/texts-bits-per-byte.md").read_text()


def test_an_interval_over_documents_says_that_it_is_one(folders) -> None:
    run = folders.arm("scratch", POINTS)
    final = {"bits_per_byte": 2.0, "nats_per_token": 5.5, "intervals": {"bits_per_byte": [1.95, 2.05]}}
    folders.write(str(run.evaluation.relative_to(folders.root) / "results.json"), {"perplexity": final})
    report(folders.job())
    page = (folders.root / "report/index.html").read_text()
    assert "1.950 to 2.050" in page and "which say nothing of another seed" in page
