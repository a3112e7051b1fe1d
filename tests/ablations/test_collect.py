"""The numbers of an ablation, against crossings and intervals worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from clp_transfer.ablations.collect import collect
from clp_transfer.ablations.figure import figure
from clp_transfer.ablations.job import AblationConfig
from clp_transfer.ablations.publish import rebuilt, write
from clp_transfer.ablations.steps import Cell
from clp_transfer.ablations.table import CAPTIONS, table, titled
from clp_transfer.report.canvas import styled

SCRATCH = [(0, 4.0), (100, 3.0), (200, 2.0)]
METRICS = ("nats_per_token", "token_perplexity", "word_perplexity", "byte_perplexity")


def run(folder: Path, curve: list[tuple[int, float]]) -> Path:
    folder.mkdir(parents=True)
    records = [{"kind": "validation", "tokens": t, "bits_per_byte": b} | dict.fromkeys(METRICS, 1.0) for t, b in curve]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    summary = {"tokens": curve[-1][0], "parameters": 10, "lr": 0.004, "final": records[-1]}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    """Two variants; of `a`, mean gets to scratch's 2.0 at 100 and 50 of 200 tokens, of `b` once and once not."""
    reference = run(tmp_path / "scratch", SCRATCH)
    helper = run(tmp_path / "helper", [(0, 5.0), (50, 2.5)])
    curves = {
        ("a", 1): [(0, 3.0), (100, 2.0), (200, 1.5)],
        ("a", 2): [(0, 3.0), (50, 2.0), (200, 1.7)],
        ("b", 1): [(0, 3.5), (200, 1.9)],
        ("b", 2): [(0, 3.3), (200, 2.1)],
    }
    return [
        Cell(label, "mean", seed, run(tmp_path / f"{label}{seed}", curve), tmp_path / "none", helper, reference)
        for (label, seed), curve in curves.items()
    ]


def test_means_intervals_and_savings(cells: list[Cell]) -> None:
    one, two = collect(AblationConfig(name="q", axis="letter"), cells)["rows"]
    assert one["final"] == pytest.approx(1.6)
    # t(0.975, 1 degree of freedom) = 12.706; the standard error of 1.5 and 1.7 is 0.1
    assert one["final_interval"] == pytest.approx([1.6 - 1.2706, 1.6 + 1.2706], abs=1e-4)
    assert one["saved"] == pytest.approx((0.5 + 0.75) / 2)
    assert (one["reached"], two["reached"]) == (2, 1)
    assert two["saved"] is None and two["saved_interval"] is None
    assert two["runs"][0]["saved"] == pytest.approx(1 - (200 * 1.5 / 1.6) / 200)


def test_the_table_and_the_picture_show_them(cells: list[Cell], tmp_path: Path) -> None:
    found = collect(AblationConfig(name="q", axis="letter"), cells)
    text = table(found)
    assert "| a | 1.600 ± 1.271 (62% ± 159) |" in text
    assert "(reached by 1 of 2) |" in text
    assert "| a | 3.000 ± 0.000 |" in text
    with styled():
        drawn = figure(found)
    points = drawn.axes[1].lines[0]
    assert list(points.get_ydata()) == pytest.approx([1.6, 2.0])
    write(found, tmp_path / "out")
    assert json.loads((tmp_path / "out/ablation.json").read_text()) == json.loads(json.dumps(found))
    assert (tmp_path / "out/figure.png").stat().st_size > 1000


def test_a_single_variant_is_a_table_of_arms(cells: list[Cell]) -> None:
    found = collect(AblationConfig(name="q", axis="method"), cells[:2])
    assert table(found).splitlines()[2] == "| `mean` | 3.000 ± 0.000 | 1.600 ± 1.271 | 62% ± 159 | – |"
    with styled():
        assert math.isclose(figure(found).axes[1].lines[0].get_xdata()[0], 1.6)


def test_one_arm_far_off_does_not_press_the_others_together(cells: list[Cell]) -> None:
    found = collect(AblationConfig(name="q", axis="letter"), cells)
    found["rows"][0] |= {"start": 5000.0, "start_interval": [-2000.0, 12000.0]}
    with styled():
        drawn = figure(found)
    assert [axes.get_yscale() for axes in drawn.axes] == ["log", "linear"]
    assert drawn.axes[0].get_ylim()[1] > 5000


def test_the_question_stands_where_no_heading_asks_it(cells: list[Cell], tmp_path: Path) -> None:
    found = collect(AblationConfig(name="q", question="Which letter?", axis="letter"), cells)
    write(found, tmp_path)
    assert (tmp_path / "table.md").read_text() == f"**Which letter?**\n\n{table(found)}\n" == f"{titled(found)}\n"
    (tmp_path / "q.json").write_text((tmp_path / "ablation.json").read_text())
    assert "Which" not in rebuilt("<!-- ablation: q -->\n<!-- /ablation -->", tmp_path)
    assert titled(found | {"question": ""}) == table(found)


def test_the_panels_are_called_as_the_columns_are(cells: list[Cell]) -> None:
    for some in (cells, cells[:2]):
        found = collect(AblationConfig(name="q", axis="letter"), some)
        with styled():
            panels = [axes.get_title(loc="left") for axes in figure(found).axes]
        assert panels == [CAPTIONS["start"], CAPTIONS["final"]]


def test_a_document_gets_the_tables_that_it_marks(cells: list[Cell], tmp_path: Path) -> None:
    found = collect(AblationConfig(name="q", axis="method"), cells[:2])
    (tmp_path / "q.json").write_text(json.dumps(found))
    text = "before\n<!-- ablation: q -->\nold\n<!-- /ablation -->\nafter\n"
    assert rebuilt(text, tmp_path) == text.replace("old", table(found))
    assert rebuilt(rebuilt(text, tmp_path), tmp_path) == rebuilt(text, tmp_path)
