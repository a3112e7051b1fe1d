"""The page: self-contained, well formed, escaped, complete, the same every time."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from clp_transfer.report.run import report

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Checker(HTMLParser):
    """Collects the text, ids and everything that a browser would fetch; refuses unbalanced tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.ids: list[str] = []
        self.uses: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._look(tag, dict(attributes))

    def handle_startendtag(self, tag, attributes) -> None:
        self._look(tag, dict(attributes))

    def _look(self, tag, attributes) -> None:
        if "id" in attributes:
            self.ids.append(attributes["id"])
        for name in ("src", "srcset", "href", "xlink:href", "data", "action", "poster"):
            value = attributes.get(name)
            if value and value.startswith("#"):
                self.uses.append(value[1:])
            elif value and tag != "a":
                self.fetched.append(value)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def check(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


@pytest.fixture
def page(full) -> str:
    report(full.job())
    return (full.root / "report/index.html").read_text(encoding="utf-8")


def test_well_formed_with_unique_ids_that_resolve(page) -> None:
    checker = check(page)
    assert len(checker.ids) == len(set(checker.ids))
    assert set(checker.uses) <= set(checker.ids)
    assert page.lstrip().startswith("<!doctype html>")


def test_no_outside_requests_and_no_script(page) -> None:
    checker = check(page)
    assert checker.fetched == []
    assert not checker.tags & {"script", "iframe", "link", "img", "object"}
    assert not re.search(r"url\((?!#)|@import", page)


def test_a_policy_forbids_every_request(page) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None and policy[1].startswith("default-src 'none'")
    assert "script-src" not in policy[1] and "http" not in policy[1]


def test_text_is_escaped(page) -> None:
    assert "&lt;script&gt;alert(1)" in page
    assert "ein &amp; zwei" in page


def test_has_every_arms_numbers_and_warnings(page) -> None:
    text = " ".join(" ".join(check(page).text).split())
    assert "ridge reaches the final loss of training from scratch with 20% of the tokens." in text
    assert "That saves 80% of the training tokens" in text
    assert "it saves 70% of the compute" in text
    assert "The paper’s own formula, clp, does not reach that loss." in text
    for shown in (
        "13.90",
        "2.59",
        "0.310",
        "0.163",
        "0.111",
        "2.100",
        "1.600",
        "37%",
        "some-texts 1.2.3",
        "CC BY-SA 4.0",
    ):
        assert shown in text, shown
    assert "one seed, no interval" in text
    assert "7 tokens are ill-conditioned" in text
    assert "the denominator is almost 0" in text
    assert text.count("not distinguishable from chance") == 2


def test_figures_are_written_and_inlined(full) -> None:
    report(full.job())
    folder = full.root / "report/figures"
    units = ("perplexity", "word_perplexity", "byte_perplexity", "nats", "bits")
    for name in (*units, "paper", "saved", "step0-smollm2"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / f"{name}.svg").read_text()
    html = (full.root / "report/index.html").read_text()
    assert html.count("<svg") == 8
    assert "var(--arm-ridge)" in html


def test_two_runs_are_byte_identical(full) -> None:
    report(full.job("one"))
    report(full.job("two"))
    for name in ("index.html", "results.json", "figures/bits.svg", "figures/bits.png"):
        assert (full.root / "one" / name).read_bytes() == (full.root / "two" / name).read_bytes(), name


def test_little_still_gives_a_page(folders) -> None:
    run = folders.arm("scratch", [(0, 3.0), (1000, 2.0)])
    (run.evaluation / "results.json").write_text("{}")
    (run.init / "transfer.json").write_text("{}")
    (folders.root / "data/statistics.json").write_text("{}")
    report(folders.job(config={}))
    text = " ".join(check((folders.root / "report/index.html").read_text()).text)
    assert "nothing to compare it with" in text
    assert "Zero-shot" not in text
    assert "Before any training" not in text
    assert "What they write" not in text


def test_no_scratch_and_a_single_point_still_give_a_page(folders) -> None:
    folders.arm("novel method", [(0, 3.0)])
    report(folders.job())
    text = " ".join(check((folders.root / "report/index.html").read_text()).text)
    assert "No arm was trained from scratch" in text
    assert "novel method" in text


def test_seeds_are_shown_with_intervals(folders) -> None:
    for seed, end in ((1, 1.6), (2, 1.62), (3, 1.61)):
        folders.arm("scratch", [(0, 3.0), (1000, 2.0)], seed)
        folders.arm("fvt", [(0, 3.0), (1000, end)], seed)
    report(folders.job())
    text = " ".join(check((folders.root / "report/index.html").read_text()).text)
    assert re.search(r"95% interval \d+% to \d+%, 3 seeds", text)
    assert "one seed" not in text


def test_some_seeds_only(folders) -> None:
    for seed, end in ((1, 1.9), (2, 2.1)):
        folders.arm("scratch", [(0, 3.0), (1000, 2.0)], seed)
        folders.arm("clp", [(0, 3.0), (1000, end)], seed, warnings=[f"warned with seed {seed}"])
    report(folders.job())
    text = " ".join(check((folders.root / "report/index.html").read_text()).text)
    assert "reached by 1 of 2 seeds" in text
    assert "warned with seed 1" in text and "warned with seed 2" in text


@pytest.mark.parametrize("bits", [{"own_tokenizer": 2.0}, {"clp": None, "own_tokenizer": 2.0}, {"fvt": 2.5}, {}])
def test_step0_with_parts_missing(folders, bits) -> None:
    folders.arm("scratch", [(0, 3.0), (1000, 2.0)])
    folders.source_at_step0("small/model", {}, {})
    folders.write("step0-small/model/results.json", {"bits_per_byte": bits})
    report(folders.job())
    check((folders.root / "report/index.html").read_text())
