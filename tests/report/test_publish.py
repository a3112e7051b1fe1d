"""What the README says is what the kept results say."""

from __future__ import annotations

import json
from pathlib import Path

from clp_transfer.report.publish import END, START, readme_block

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_agrees_with_the_kept_results() -> None:
    found = json.loads((ROOT / "results" / "mini" / "results.json").read_text())
    text = (ROOT / "README.md").read_text()
    assert text.partition(START)[2].partition(END)[0].strip() == readme_block(found)


def test_the_kept_results_hold_no_text_of_the_corpora() -> None:
    found = json.loads((ROOT / "results" / "mini" / "results.json").read_text())
    assert all("samples" not in arm for arm in found["arms"].values())


def test_the_readme_is_short_and_names_every_file_it_shows() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 250
    tree = text.partition("## Files\n```\n")[2].partition("```")[0]
    for line in tree.splitlines():
        first = line.split()[0]
        if "*" not in first and "|" not in first:
            assert (ROOT / first).exists(), first
