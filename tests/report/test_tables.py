"""The tables for a paper: Markdown that has the right cells, LaTeX that compiles."""

from __future__ import annotations

import re

import pytest

from clp_transfer.report.escape import latex, markdown, slug
from clp_transfer.report.run import report
from clp_transfer.report.tables import Table, write_tables

pytestmark = pytest.mark.usefixtures("no_figures")

NASTY = "50% of {a_b} & #1 $x^2 ~ \\end | <b> *c* `d` −5 ± 1 → 10¹⁵\nend"


def cells(line: str, separator: str) -> list[str]:
    return [part.strip() for part in re.split(rf"(?<!\\){re.escape(separator)}", line)]


@pytest.fixture
def written(tmp_path):
    write_tables([Table("t", NASTY, ["arm", NASTY], [[NASTY, "1"], ["b", NASTY]])], tmp_path)
    return tmp_path


def test_markdown_keeps_its_cells(written) -> None:
    lines = (written / "t.md").read_text().splitlines()
    rows = [cells(line, "|")[1:-1] for line in lines if line.startswith("|")]
    assert [len(row) for row in rows] == [2, 2, 2, 2]
    assert rows[3] == ["b", markdown(NASTY)]
    assert "<b>" not in lines[0] and "\n" not in markdown(NASTY)


def test_latex_is_balanced_and_has_no_bare_special(written) -> None:
    text = (written / "t.tex").read_text()
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lr}", r"\label{tab:t}"):
        assert rule in text
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip().splitlines()
    assert [len(cells(line, "&")) for line in body] == [2, 2]
    assert all(line.endswith(r" \\") for line in body)
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")


def test_latex_by_hand() -> None:
    assert latex("5% & a_b") == r"5\% \& a\_b"
    assert latex("{\\}") == r"\{\textbackslash{}\}"
    assert latex("2 × 10⁻¹²") == r"2 $\times$ 10$^{-12}$"
    assert latex("−50% ± 1 – x → y") == r"$-$50\% $\pm$ 1 -- x $\rightarrow$ y"
    assert latex(NASTY).isascii()


def test_file_names() -> None:
    assert slug("germeval2018_coarse") == "germeval2018-coarse"
    assert slug("../../etc/passwd") == "etc-passwd" and slug("…") == "table"


def test_a_report_has_all_its_tables(full) -> None:
    report(full.job())
    folder = full.root / "report/tables"
    names = {"final", "savings", "task-domains", "paper"}
    assert {path.name for path in folder.iterdir()} == {f"{name}.{end}" for name in names for end in ("md", "tex")}
    savings = (folder / "savings.md").read_text()
    assert "One seed, no interval." in savings
    assert "| ridge | 80% | 80% | 70% | 200 | 2.0 × 10³ | 1 |" in savings
    assert "| clp | – | – | – | not reached | – | 1 |" in savings
    final = (folder / "final.md").read_text()
    assert "| ridge | 1.00 k | 1.00 k | 0.002 | 4.436 | 84.45 | 776.0 | 3.031 | 1.600 |" in final
    paper = (folder / "paper.md").read_text()
    assert "6.4 B" in paper and "read off a figure" in paper and "one seed, no interval" in paper
