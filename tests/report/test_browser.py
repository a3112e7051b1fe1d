"""The page in a real browser, wide, on a phone and on paper: no error, no request, nothing cut off."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clp_transfer.report.find import find
from clp_transfer.report.run import report
from tests.report import browser

pytestmark = pytest.mark.skipif(browser.PATH is None, reason=f"no browser here: none of {', '.join(browser.NAMES)}")


@pytest.fixture
def page(outputs, task_results, tmp_path: Path) -> Path:
    """A page with everything on it: two experiments, seeds, ablations, texts, tasks, samples, a run left out."""
    said = [{"prompt": "Die Donaudampfschifffahrt", "text": " ist " + "Donaudampfschifffahrtsgesellschaft" * 4}]
    for name, tokenizer in (("a-long-name", "t"), ("other", "u")):
        made = outputs(name, tokenizer=tokenizer)
        for seed in (1, 2):
            texts = {"bundestag": {"bits_per_byte": 1.6 + seed / 10, "word_perplexity": 123_456.7}}
            parts = {"samples": said, "texts": texts, "tasks": task_results(0.2 + seed / 10, True)}
            for arm, end in (("scratch", 2.0), ("clp", 1.95), ("clp-topk", 1.7), ("ridge", 1.6)):
                points = [(0, 13.0 if arm == "clp" else 3.0), (400_000, 2.4), (500_000, end + seed / 50)]
                made.arm(f"{arm}-seed{seed}", points, **parts)
            points = [(0, 3.0), (500_000, 1.9)]
            made.arm(f"ridge-seed{seed},optim.lr=0.001", points, settings={"optim": {"lr": 0.001}}, **parts)
        made.helper(1e6)
        (made.root / "runs/blend-seed1.partial").mkdir()
    report(find([tmp_path / "outputs/a-long-name", tmp_path / "outputs/other"], tmp_path / "report"))
    # Alone in its folder: it needs nothing beside it.
    (tmp_path / "alone").mkdir()
    return Path(shutil.copy(tmp_path / "report/index.html", tmp_path / "alone"))


def test_no_console_message(page: Path) -> None:
    assert browser.console(page) == []


def test_the_console_check_can_fail(page: Path) -> None:
    page.write_text(page.read_text().replace("</body>", '<img src="https://example.org/x.png"></body>'))
    assert any("Content Security Policy" in line for line in browser.console(page))


@pytest.mark.parametrize("width", [1280, 820, 390, 320])
def test_nothing_is_cut_off(page: Path, width: int) -> None:
    found = browser.look(page, width)
    assert found["width"] == width
    assert found["page"] <= width
    assert found["wide"] == found["cut"] == found["narrow"] == []
    assert found["scrolled"] == [] or width < 1280, "at full width no table needs scrolling"
    assert found["shown"] == 2, "one pane of each switch"


def test_the_cut_off_check_can_fail(page: Path) -> None:
    page.write_text(page.read_text().replace("</body>", '<div style="width: 900px">wide</div></body>'))
    assert browser.look(page, 390)["wide"]


def test_on_paper_every_unit_shows_and_every_table_fits(page: Path) -> None:
    found = browser.look(page, 718, printed=True)  # A4 between margins of 1 cm
    assert found["wide"] == found["cut"] == found["narrow"] == found["scrolled"] == []
    assert found["shown"] == 4 + 3  # four units of the curves; bits per byte, word and byte perplexity by text


def test_it_prints(page: Path) -> None:
    printed = page.with_suffix(".pdf")
    browser.open_page(page.as_uri(), f"--print-to-pdf={printed}")
    assert printed.read_bytes().startswith(b"%PDF")
