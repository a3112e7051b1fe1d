"""The bar figures: tokens saved per arm, and bits per byte at step 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from clp_transfer.report.canvas import blank, title
from clp_transfer.report.palette import CARD, GRID, INK, MUTED, colours
from clp_transfer.report.words import number, percent, unreached

FLOOR = -1.0
OWN = "own_tokenizer"


def saved_figure(results: dict[str, Any]) -> Figure | None:
    """Tokens saved per arm, best first, with what is left of it when the helper's FLOPs are counted."""
    saved = results["tokens_saved"]
    if not saved:
        return None
    order = sorted(saved, key=lambda name: -_rank(saved[name]["saved"]))
    palette = colours(results["arms"])
    figure, axes = _rows(order, above=0.7)
    lows = [0.0]
    for row, name in enumerate(order):
        lows += _saved_row(axes, row, saved[name], palette[name].light)
    _names(axes, order, [palette[name].light for name in order])
    axes.set_xlim(min(lows) - (0.05 if min(lows) < 0 else 0), 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.axvline(0, color=MUTED.light, lw=0.8, zorder=2)
    title(figure, "Tokens saved")
    if any(record["uses_helper"] for record in saved.values()):
        figure.text(1.0, 0.975, "◇ compute, helper counted", fontsize=9, color=MUTED.light, ha="right", va="center")
    return figure


def _saved_row(axes: Axes, row: int, record: dict[str, Any], shade: str) -> list[float]:
    """One arm: its bar, its numbers, and a diamond where a helper is to be counted; returns what was drawn."""
    bar, flops = record["saved"], record["saved_flops_counting_the_helper"]
    flops = flops if record["uses_helper"] else None
    beside = axes.get_yaxis_transform()
    if bar is not None:
        axes.barh(row, max(bar, FLOOR), height=0.5, color=shade, zorder=3)
        _whisker(axes, row, record["intervals"].get("saved"))
    text = percent(bar) if bar is not None else unreached(record)
    axes.text(_right(axes, 0.013), row, text, transform=beside, va="center", fontsize=9, color=INK.light)
    if flops is not None:
        axes.plot([max(flops, FLOOR)], [row], "D", ms=6, color=CARD.light, mec=INK.light, mew=1.2, zorder=5)
        axes.text(
            _right(axes, 0.1), row, f"◇ {percent(flops)}", transform=beside, va="center", fontsize=9, color=MUTED.light
        )
    return [max(value, FLOOR) for value in (bar, flops) if value is not None]


def step0_figure(bits: dict[str, float | None]) -> Figure | None:
    """Bits per byte before any training, lowest first; a bar far beyond the rest is cut, and says so."""
    known = {name: value for name, value in bits.items() if name != OWN and value is not None}
    if not known:
        return None
    order = sorted(known, key=lambda name: known[name])
    own = bits.get(OWN)
    limit = cut([*known.values(), *([own] if own is not None else [])])
    palette = colours(bits)
    figure, axes = _rows(order)
    beside = axes.get_yaxis_transform()
    for row, name in enumerate(order):
        value, colour = known[name], palette[name].light
        axes.barh(row, min(value, limit), height=0.56, color=colour, zorder=3)
        if value > limit:
            _break(axes, row, limit)
        axes.text(_right(axes, 0.013), row, number(value), transform=beside, va="center", fontsize=9)
    _names(axes, order, [palette[name].light for name in order])
    axes.set_xlim(0, limit)
    if own is not None:
        axes.axvline(own, color=INK.light, lw=1.1, ls=(0, (4, 2)), zorder=4)
        label = f"own tokenizer {number(own)}"
        right = own < limit / 2
        axes.text(
            own + (0.012 if right else -0.012) * limit, -0.72, label, fontsize=8.5, va="center",
            ha="left" if right else "right",
        )  # fmt: skip
    title(figure, "Bits per byte before any training")
    return figure


def cut(values: Sequence[float]) -> float:
    """Where the axis ends: a little past the largest value that is not over three times the median."""
    median = sorted(values)[len(values) // 2]
    usual = max(value for value in values if value <= 3 * median)
    return usual * (1.04 if usual == max(values) else 1.22)


def _rank(value: float | None) -> float:
    return float("-inf") if value is None else value


def _rows(names: Sequence[str], above: float = 1.0) -> tuple[Figure, Axes]:
    figure, axes = blank()
    # Long names (`experiment/arm`) need more than the usual margin.
    start = min(0.4, max(0.16, 0.0165 * max(len(name) for name in names) + 0.02))
    axes.set_position((start, 0.08, 0.79 - start, 0.82))
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=GRID.light, linewidth=0.7)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.set_ylim(len(names) - 0.4, -above)
    return figure, axes


def _right(axes: Axes, share: float) -> float:
    """So much of the figure's width right of the axes, in the axes' own coordinates."""
    return 1 + share / float(axes.get_position().width)


def _names(axes: Axes, names: list[str], shades: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    for label, shade in zip(axes.get_yticklabels(), shades, strict=True):
        label.set_color(shade)


def _whisker(axes: Axes, row: int, bounds: list[float] | None) -> None:
    if bounds:
        axes.plot(bounds, [row, row], color=INK.light, lw=1.2, zorder=4, solid_capstyle="butt")


def _break(axes: Axes, row: int, limit: float) -> None:
    """Two slanted gaps across a bar that goes on beyond the axis."""
    for at in (0.90, 0.93):
        x = [limit * (at - 0.008), limit * (at + 0.008)]
        axes.plot(x, [row + 0.36, row - 0.36], color=CARD.light, lw=2.5, zorder=5)
