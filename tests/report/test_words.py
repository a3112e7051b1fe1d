"""Sentences and numbers hold for any results, not only the hoped-for ones."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from clp_transfer.report.assemble import assemble
from clp_transfer.report.bars import cut
from clp_transfer.report.beside import beside
from clp_transfer.report.canvas import spread
from clp_transfer.report.collect import collect
from clp_transfer.report.headline import best_arm, headline, lead, step0_sentence
from clp_transfer.report.palette import ARMS, colours, everything
from clp_transfer.report.summary import summary_table
from clp_transfer.report.words import count, listed, percent, percent_plus_minus, plus_minus, power


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.86, "86%"), (0.0, "0%"), (1.0, "100%"), (0.996, "99.6%"), (0.004, "0.4%"), (-0.58, "−58%"), (None, "–")],
)
def test_percent(share, text) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "bounds", "digits", "text"),
    [
        (2.1012, [2.0892, 2.1132], 3, "2.101 ± 0.012"),
        (2529.5664, [-3433.9146, 8493.0474], 3, "2,529.566 ± 5,963.481"),
        (0.5, [0.5, 0.5], 2, "0.50 ± 0.00"),
        (2.1, None, 2, "2.10"),
        (None, None, 3, "–"),
        (None, [1.0, 2.0], 3, "–"),
    ],
)
def test_a_mean_with_half_of_its_interval(value, bounds, digits, text) -> None:
    assert plus_minus(value, bounds, digits) == text


@pytest.mark.parametrize(
    ("share", "bounds", "text"),
    [
        (0.79, [0.76, 0.82], "79% ± 3"),
        (0.86, [0.859, 0.861], "86% ± 0"),
        (-0.58, [-0.6, -0.56], "−58% ± 2"),
        (0.996, [0.994, 0.998], "99.6% ± 0.2"),
        (0.625, [-0.97, 2.22], "62% ± 160"),
        (0.79, None, "79%"),
        (None, None, "–"),
        (None, [0.0, 1.0], "–"),
    ],
)
def test_a_share_with_half_of_its_interval(share, bounds, text) -> None:
    assert percent_plus_minus(share, bounds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (812, "812"), (83_100, "83.1 k"), (1_204_000, "1.20 M"), (50.4e9, "50.4 B"), (589_824, "590 k")],
)
def test_count(value, text) -> None:
    assert count(value) == text


def test_power_and_lists() -> None:
    assert power(1.23e15) == "1.2 × 10¹⁵"
    assert listed(["a", "b", "c"]) == "a, b and c"


def results_of(job):
    return assemble(job, collect(job))


def outcome(folders, **curves):
    folders.arm("scratch", [(0, 3.0), (1000, 2.0)])
    for name, points in curves.items():
        folders.arm(name, points)
    results = results_of(folders.job())
    return headline(results), " ".join(lead(results))


def test_nobody_gets_there(folders) -> None:
    first, rest = outcome(folders, clp=[(0, 3.0), (1000, 2.1)], mean=[(0, 3.0), (1000, 2.2)])
    assert first == "No arm beats training from scratch: none reaches its final loss."
    assert "clp, does not reach that loss" in rest


def test_scratch_diverged(folders) -> None:
    folders.arm("scratch", [(0, math.nan), (1000, math.nan)])
    folders.arm("mean", [(0, 3.0), (1000, math.nan)])
    results = results_of(folders.job())
    assert headline(results) == "Training from scratch diverged, so there is no final loss to reach."
    assert "scratch diverged" in summary_table(results) and "not reached" not in summary_table(results)


def test_just_as_many_tokens_is_no_win(folders) -> None:
    first, rest = outcome(folders, mean=[(0, 3.0), (1000, 2.0)])
    assert first == "No arm beats training from scratch: the best, mean, needs just as many tokens."
    assert "saves" not in rest


def test_better_before_training(folders) -> None:
    first, rest = outcome(folders, fvt=[(0, 1.9), (1000, 1.5)])
    assert first == "fvt is better than the final loss of training from scratch before it sees a single token."
    assert "saves 100%" in rest
    assert "needs no helper" in rest


def test_a_costly_helper_is_admitted(folders) -> None:
    folders.helper(12_000.0)
    _, rest = outcome(folders, clp=[(0, 3.0), (500, 2.0)])
    assert "it saves nothing: it takes 70% more compute" in rest
    assert "It is the paper's own formula." in rest


SCRATCH = [(0, 3.0), (1000, 2.0)]


def test_the_sources_own_tokenizer_is_no_transfer_however_much_it_saves(folders) -> None:
    """own gets to scratch's 2.0 at 100 tokens, clp at 700: the headline and the paper's formula are about clp."""
    folders.arm("own", [(0, 2.5), (100, 2.0), (1000, 1.2)])
    folders.arm("clp", [(0, 3.0), (700, 2.0), (1000, 1.9)])
    folders.arm("scratch", SCRATCH)
    results = results_of(folders.job())
    assert best_arm(results) == "clp"
    assert headline(results) == "clp reaches the final loss of training from scratch with 70% of the tokens."
    rest = " ".join(lead(results))
    assert "That saves 30% of the training tokens" in rest and "It is the paper's own formula." in rest
    assert (
        "Keeping the source's own tokenizer (own) needs 10% of the tokens, saving 90%, better than the best transfer, "
        "clp." in rest
    )
    assert ("tokens saved by the best transfer", "–", "clp 30% (one seed, no interval)") in beside(results)


@pytest.mark.parametrize(
    ("own", "other", "first", "said"),
    [
        ([(0, 3.0), (1000, 2.1)], [(0, 3.0), (500, 2.0)], "mean reaches", "(own) does not reach the final loss of"),
        (
            [(0, 3.0), (900, 2.0)],
            [(0, 3.0), (500, 2.0)],
            "mean reaches",
            "saving 10%, worse than the best transfer, me",
        ),
        (
            [(0, 3.0), (500, 2.0)],
            [(0, 3.0), (500, 2.0)],
            "mean reaches",
            "saving 50%, the same as the best transfer, m",
        ),
        (
            [(0, 3.0), (500, 2.0)],
            [(0, 3.0), (500, 2.1)],
            "No transfer beats training from scratch: none",
            "saving 50%.",
        ),
        ([(0, 3.0), (500, 2.0)], None, "No transfer was run", "saving 50%."),
    ],
)
def test_own_beside_any_best_transfer(folders, own, other, first, said) -> None:
    headlined, rest = outcome(folders, own=own, **({"mean": other} if other else {}))
    assert headlined.startswith(first)
    assert said in rest and rest.count("(own)") == 1 and "own does not get there" not in rest


def test_ties_go_to_the_lower_final_loss(folders) -> None:
    first, _ = outcome(folders, mean=[(0, 1.9), (1000, 1.8)], fvt=[(0, 1.9), (1000, 1.5)])
    assert first.startswith("fvt ")


def test_step0_sentence_on_either_side_of_the_own_tokenizer() -> None:
    assert "0.21 more than s itself" in step0_sentence("s", {"own_tokenizer": 2.38, "ridge": 2.59, "clp": 13.9})
    assert "0.38 less than s itself" in step0_sentence("s", {"own_tokenizer": 2.38, "ridge": 2.0})
    assert step0_sentence("s", {"own_tokenizer": 2.38}) == ""


def test_summary_table(full) -> None:
    lines = summary_table(results_of(full.job())).splitlines()
    ridge = next(line.split() for line in lines if line.startswith("ridge  "))
    assert ridge == ["ridge", "0.002", "4.436", "1.600", "200", "80%", "70%", "0.310"]
    clp = next(line for line in lines if line.startswith("clp  "))
    assert "not reached" in clp and "0.130*" in clp
    assert "step 0 from smollm2, bits/byte: own tokenizer 2.38, ridge 2.59, clp 13.90" in lines


def test_an_extreme_bar_is_cut_and_usual_ones_are_not() -> None:
    assert cut([2.38, 2.59, 2.63, 2.72, 2.9, 5.5, 13.9]) == pytest.approx(5.5 * 1.22)
    assert cut([2.0, 2.5, 3.0]) > 3.0


@pytest.mark.parametrize("wanted", [[0.5] * 7, [0.1, 0.11, 0.9, 0.91, 0.92], [1.0, 0.99, 0.0], [0.2]])
def test_labels_keep_their_distance_order_and_bounds(wanted) -> None:
    placed = spread(wanted, 0.06, 0.0, 1.0)
    ranked = [placed[i] for i in sorted(range(len(wanted)), key=lambda i: wanted[i])]
    assert ranked == sorted(ranked)
    assert all(b - a >= 0.06 - 1e-9 for a, b in pairwise(ranked))
    assert min(placed) >= 0 and max(placed) <= 1


def test_labels_that_do_not_touch_stay() -> None:
    assert spread([0.1, 0.5, 0.9], 0.06, 0.0, 1.0) == pytest.approx([0.1, 0.5, 0.9])


def test_colours_are_fixed_and_unique() -> None:
    assert colours(["new", "ridge"])["ridge"] is ARMS["ridge"]
    values = [colour.light for colour in everything()]
    assert len(values) == len(set(values))
