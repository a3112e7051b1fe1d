"""The figures of loss against tokens: perplexity as in the paper, the paper's own, and bits per byte."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median_high
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from clp_transfer.report.canvas import blank, spread, title
from clp_transfer.report.headline import best_arm
from clp_transfer.report.palette import CARD, INK, MUTED, Colour, colours
from clp_transfer.report.savings import REFERENCE
from clp_transfer.report.words import count, number, percent

Points = list[tuple[float, float]]
# The paper's figure ends at 200, which is 3.4 times its final perplexity from scratch: ours is cut likewise.
PAPER_CROP = 200 / 59.2
POINTS_BETWEEN = 16


def perplexity_figure(results: dict[str, Any]) -> Figure:
    """Token perplexity over tokens seen, cut like the paper's figure."""
    figure, axes = blank()
    finals = [_end(arm["curve"], "token_perplexity") for arm in results["arms"].values()]
    reference = _end(results["arms"].get(REFERENCE, {}).get("curve", []), "token_perplexity")
    base = reference or max((f for f in finals if f), default=1.0)
    low = min([f for f in [*finals, base] if f])
    _draw(axes, results, "token_perplexity", (low * 0.75, base * PAPER_CROP), digits=0)
    title(figure, "Token perplexity")
    return figure


def bits_figure(results: dict[str, Any]) -> Figure:
    """Bits per byte over tokens seen, from step 0 on."""
    figure, axes = blank()
    values = [p["bits_per_byte"] for arm in results["arms"].values() for p in arm["curve"]]
    known = [value for value in values if value is not None] or [1.0]
    starts = [arm["curve"][0]["bits_per_byte"] for arm in results["arms"].values()]
    starts = [start for start in starts if start is not None]
    # Weights that blow up may start an arm far above guessing; the others must stay readable.
    top = min(max(known), 1.3 * median_high(starts)) if starts else max(known)
    room = (top - min(known)) or 1.0
    _draw(axes, results, "bits_per_byte", (min(known) - 0.08 * room, top + 0.05 * room), digits=3)
    title(figure, "Bits per byte")
    return figure


def _draw(axes: Axes, results: dict[str, Any], metric: str, limits: tuple[float, float], digits: int) -> None:
    arms, palette = results["arms"], colours(results["arms"])
    for name, arm in arms.items():
        _line(axes, _points(arm["curve"], metric), palette[name], name, metric != "bits_per_byte")
        _band(axes, arm["intervals"], metric, palette[name])
    last = max(arm["curve"][-1]["tokens"] for arm in arms.values())
    axes.set_ylim(*limits)
    _token_axis(axes, last)
    ends = {name: _end(arm["curve"], metric) for name, arm in arms.items()}
    _labels(axes, ends, palette, digits)
    reference = ends.get(REFERENCE)
    if reference is not None:
        _reference(axes, reference, last)
        _crossings(axes, results, reference, palette)
    _off_scale(axes, {n: arm["curve"][0][metric] for n, arm in arms.items()}, limits[1], metric)


def _line(axes: Axes, points: Points, colour: Colour, name: str, exponential: bool) -> None:
    x, y = _smooth(points, exponential)
    scratch = name == REFERENCE
    axes.plot(x, y, color=colour.light, linewidth=2.0 if not scratch else 1.8, ls="--" if scratch else "-", zorder=3)
    if points:
        axes.plot(*zip(*points, strict=True), "o", ms=2.6, color=colour.light, mew=0, zorder=3)


def _smooth(points: Points, exponential: bool) -> tuple[list[float], list[float]]:
    """The points joined by straight lines of the loss, on which crossings are interpolated; perplexity is its exp."""
    if not points:
        return [], []
    x, y = np.array(points, dtype=float).T
    between = [np.linspace(a, b, POINTS_BETWEEN, endpoint=False) for a, b in pairwise(x)]
    dense = np.concatenate([*between, x[-1:]])
    values = np.exp(np.interp(dense, x, np.log(y))) if exponential else np.interp(dense, x, y)
    return dense.tolist(), values.tolist()


def _band(axes: Axes, intervals: list[dict[str, Any]], metric: str, colour: Colour) -> None:
    known = [(p["tokens"], *p[metric]) for p in intervals if p[metric] and None not in p[metric]]
    if known:
        x, low, high = zip(*known, strict=True)
        axes.fill_between(x, low, high, color=colour.light, alpha=0.16, linewidth=0, zorder=2)


def _token_axis(axes: Axes, last: float) -> None:
    axes.set_xlim(0, last or 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    unit, size = next((u for u in (("B", 1e9), ("M", 1e6), ("k", 1e3)) if last >= u[1]), ("", 1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / size:g}{' ' + unit if v and unit else ''}"))
    axes.set_xlabel("training tokens", loc="right", fontsize=9)


def _labels(axes: Axes, ends: dict[str, float | None], palette: dict[str, Colour], digits: int) -> None:
    """Each arm's name and final value right of its line's end, moved apart where they would touch."""
    low, high = axes.get_ylim()
    shown = {name: end for name, end in ends.items() if end is not None and low <= end <= high}
    heights = [(end - low) / (high - low) for end in shown.values()]
    placed = spread(heights, 0.056, 0.01, 0.99)
    for (name, end), at, height in zip(shown.items(), placed, heights, strict=True):
        axes.plot(
            [1.005, 1.035], [height, at], transform=axes.transAxes, color=palette[name].light, lw=0.8, clip_on=False
        )
        label = f"{name} {number(end, digits)}"
        axes.text(1.045, at, label, transform=axes.transAxes, va="center", fontsize=8.5, color=palette[name].light)


def _reference(axes: Axes, value: float, last: float) -> None:
    axes.plot([0, last], [value, value], color=MUTED.light, lw=0.8, ls=(0, (1, 2)), zorder=1)


def _crossings(axes: Axes, results: dict[str, Any], value: float, palette: dict[str, Colour]) -> None:
    saved = results["tokens_saved"]
    for name, record in saved.items():
        if record["arm_tokens"] is not None:
            at = record["arm_tokens"]
            _mark(axes, at, value, palette[name])
    best = best_arm(results)
    if best is not None and (saved[best]["saved"] or 0) > 0.05:
        _arrow(axes, saved[best]["arm_tokens"], saved[best]["scratch_tokens"], value, saved[best]["saved"], best)


def _mark(axes: Axes, tokens: float, value: float, colour: Colour) -> None:
    axes.plot([tokens], [value], "o", ms=6, color=colour.light, mec=CARD.light, mew=1.2, zorder=5, clip_on=False)


def _arrow(axes: Axes, start: float, end: float, value: float, share: float, name: str) -> None:
    """From where scratch ends back to where the arm got there already."""
    low, high = axes.get_ylim()
    # The words stand clear of every line that passes below or beside them.
    lines = [np.asarray(line.get_xydata()) for line in axes.get_lines()]
    beside = [float(y) for line in lines if len(line) > 2 for x, y in line if x >= 0.38 * end and y < high]
    above = min(max([value, *beside]) + 0.06 * (high - low), low + 0.9 * (high - low))
    style = {"arrowstyle": "->", "color": INK.light, "lw": 0.9, "shrinkA": 0, "shrinkB": 4}
    axes.annotate("", (start, value), (end, value), arrowprops=style, zorder=4)
    text = f"{name}: {percent(share)} of the tokens saved"
    axes.text(end * 0.99, above, text, ha="right", va="center", fontsize=8.5, color=INK.light, zorder=6)


def _off_scale(axes: Axes, starts: dict[str, float | None], top: float, metric: str) -> None:
    high = {name: start for name, start in starts.items() if start is not None and start > top}
    if metric == "bits_per_byte" and high:
        text = "above the figure at step 0: " + ", ".join(f"{n} {number(s, 1)}" for n, s in high.items())
        axes.text(0.99, 0.97, text, transform=axes.transAxes, ha="right", fontsize=8, color=MUTED.light)


def paper_figure(paper: dict[str, Any]) -> Figure:
    """The paper's curves: word perplexity over tokens, from scratch and from CLP-Transfer's initialisation."""
    figure, axes = blank()
    palette = colours(paper["curves"])
    for name, curve in paper["curves"].items():
        _line(axes, _points(curve, "word_perplexity"), palette[name], name, True)
    saved = paper["saved"]
    target = saved["reference_word_perplexity"]
    axes.set_ylim(target * 0.6, target * PAPER_CROP)
    _token_axis(axes, saved["scratch_tokens"])
    _reference(axes, target, saved["scratch_tokens"])
    _mark(axes, saved["arm_tokens"], target, palette["clp"])
    _arrow(axes, saved["arm_tokens"], saved["scratch_tokens"], target, saved["saved"], "clp")
    _labels(axes, {"scratch": _end(paper["curves"]["scratch"], "word_perplexity")}, palette, 1)
    clp = paper["curves"]["clp"][-1]
    label = f"clp {clp['word_perplexity']}"
    axes.text(
        clp["tokens"] * 1.03, clp["word_perplexity"], label, va="center", fontsize=8.5, color=palette["clp"].light
    )
    title(figure, "Word perplexity")
    return figure


def _points(curve: list[dict[str, Any]], metric: str) -> Points:
    return [(p["tokens"], p[metric]) for p in curve if p[metric] is not None and math.isfinite(p[metric])]


def _end(curve: list[dict[str, Any]], metric: str) -> float | None:
    return curve[-1][metric] if curve else None


def describe(results: dict[str, Any]) -> str:
    """The curves in words, for readers who do not see them."""
    parts = []
    for name, arm in results["arms"].items():
        first, last = arm["curve"][0], arm["curve"][-1]
        parts.append(
            f"{name} from {number(first['bits_per_byte'])} to {number(last['bits_per_byte'])} bits per byte "
            f"over {count(last['tokens'])} tokens"
        )
    return "; ".join(parts)
