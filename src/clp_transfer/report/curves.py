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

from clp_transfer.report.canvas import blank, make_room, spread, title
from clp_transfer.report.headline import best_arm
from clp_transfer.report.palette import CARD, INK, MUTED, Colour, colours
from clp_transfer.report.savings import REFERENCE, references
from clp_transfer.report.words import count, number, percent

Points = list[tuple[float, float]]
# The paper's figure ends at 200, which is 3.4 times its final perplexity from scratch: ours is cut likewise.
PAPER_CROP = 200 / 59.2
POINTS_BETWEEN = 16


# Figure: metric, title, digits of the values at the lines' ends.
PERPLEXITIES = {
    "perplexity": ("token_perplexity", "Token perplexity", 0),
    "word_perplexity": ("word_perplexity", "Word perplexity", 0),
    "byte_perplexity": ("byte_perplexity", "Byte perplexity", 2),
}
LOSSES = {"nats": ("nats_per_token", "Nats per token"), "bits": ("bits_per_byte", "Bits per byte")}
# One for each experiment, since arms of one name share a colour.
MARKS = ("o", "s", "^", "D", "v", "P")


def unit_figures(results: dict[str, Any]) -> dict[str, Figure | None]:
    """The curves in every unit; None for a unit in which nothing was measured."""
    found = {name: _perplexity(results, *of) for name, of in PERPLEXITIES.items()}
    return found | {name: _loss(results, *of) for name, of in LOSSES.items()}


def _perplexity(results: dict[str, Any], metric: str, words: str, digits: int) -> Figure | None:
    """Perplexity over tokens seen, cut like the paper's figure."""
    finals = [end for arm in results["arms"].values() if (end := _end(arm["curve"], metric)) is not None]
    if not finals:
        return None
    scratch = [_end(results["arms"][name]["curve"], metric) for name in references(results)]
    base = max((one for one in scratch if one is not None), default=max(finals))
    figure, axes = blank()
    _draw(figure, axes, results, metric, (min([*finals, base]) * 0.75, base * PAPER_CROP), digits)
    title(figure, words)
    return figure


def _loss(results: dict[str, Any], metric: str, words: str) -> Figure | None:
    """Nats per token or bits per byte over tokens seen, from step 0 on."""
    known = [v for arm in results["arms"].values() for p in arm["curve"] if (v := p[metric]) is not None]
    if not known and metric != "bits_per_byte":
        return None
    known = known or [1.0]
    starts = [start for arm in results["arms"].values() if (start := arm["curve"][0][metric]) is not None]
    # Weights that blow up may start an arm far above guessing; the others must stay readable.
    top = min(max(known), 1.3 * median_high(starts)) if starts else max(known)
    room = (top - min(known)) or 1.0
    figure, axes = blank()
    _draw(figure, axes, results, metric, (min(known) - 0.08 * room, top + 0.05 * room), 3)
    title(figure, words)
    return figure


def _draw(
    figure: Figure, axes: Axes, results: dict[str, Any], metric: str, limits: tuple[float, float], digits: int
) -> None:
    arms, palette = results["arms"], colours(results["arms"])
    homes = list(dict.fromkeys(arm.get("experiment", "") for arm in arms.values()))
    for name, arm in arms.items():
        mark = MARKS[homes.index(arm.get("experiment", "")) % len(MARKS)]
        dashed = name in references(results)
        _line(axes, _points(arm["curve"], metric), palette[name], dashed, metric.endswith("perplexity"), mark)
        _band(axes, arm["intervals"], metric, palette[name])
    last = max(arm["curve"][-1]["tokens"] for arm in arms.values())
    axes.set_ylim(*limits)
    if limits[1] >= 10_000:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: count(v)))
    _token_axis(axes, last)
    ends = {name: _end(arm["curve"], metric) for name, arm in arms.items()}
    make_room(axes, [f"{name} {number(end, digits)}" for name, end in ends.items() if end is not None])
    _labels(axes, ends, palette, digits)
    for value in (ends[name] for name in references(results)):
        if value is not None:
            _reference(axes, value, last)
    _crossings(axes, results, ends, palette)
    _off_scale(axes, {n: arm["curve"][0][metric] for n, arm in arms.items()}, limits[1], metric)


def _line(axes: Axes, points: Points, colour: Colour, scratch: bool, exponential: bool, mark: str = "o") -> None:
    x, y = _smooth(points, exponential)
    axes.plot(x, y, color=colour.light, linewidth=2.0 if not scratch else 1.8, ls="--" if scratch else "-", zorder=3)
    if points:
        axes.plot(*zip(*points, strict=True), mark, ms=2.6 if mark == "o" else 3.4, color=colour.light, mew=0, zorder=3)


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
    known = [(p["tokens"], *p[metric]) for p in intervals if p.get(metric) and None not in p[metric]]
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


def _crossings(axes: Axes, results: dict[str, Any], ends: dict[str, float | None], palette: dict[str, Colour]) -> None:
    saved = results["tokens_saved"]
    for name, record in saved.items():
        value = ends.get(record.get("reference", REFERENCE))
        if record["arm_tokens"] is not None and value is not None:
            _mark(axes, record["arm_tokens"], value, palette[name])
    best = best_arm(results)
    if best is not None and (saved[best]["saved"] or 0) > 0.05:
        value = ends.get(saved[best].get("reference", REFERENCE))
        if value is not None:
            _arrow(axes, saved[best]["arm_tokens"], saved[best]["scratch_tokens"], value, saved[best]["saved"], best)


def _mark(axes: Axes, tokens: float, value: float, colour: Colour) -> None:
    axes.plot([tokens], [value], "o", ms=6, color=colour.light, mec=CARD.light, mew=1.2, zorder=5, clip_on=False)


def _arrow(axes: Axes, start: float, end: float, value: float, share: float, name: str) -> None:
    """From where scratch ends back to where the arm got there already."""
    low, high = axes.get_ylim()
    text, width = f"{name}: {percent(share)} of the tokens saved", axes.get_position().width
    if 0.0152 * len(text) > 0.8 * width:
        text = text.removeprefix(f"{name}: ")
    # The words stand clear of every line that passes below or beside them.
    begins = end * (1 - min(0.95, 0.0152 * len(text) / width))
    lines = [np.asarray(line.get_xydata()) for line in axes.get_lines()]
    beside = [float(y) for line in lines if len(line) > 2 for x, y in line if x >= begins and y < high]
    above = min(max([value, *beside]) + 0.06 * (high - low), low + 0.9 * (high - low))
    style = {"arrowstyle": "->", "color": INK.light, "lw": 0.9, "shrinkA": 0, "shrinkB": 4}
    axes.annotate("", (start, value), (end, value), arrowprops=style, zorder=4)
    axes.text(end * 0.99, above, text, ha="right", va="center", fontsize=8.5, color=INK.light, zorder=6)


def _off_scale(axes: Axes, starts: dict[str, float | None], top: float, metric: str) -> None:
    high = {name: start for name, start in starts.items() if start is not None and start > top}
    if metric in ("bits_per_byte", "nats_per_token") and high:
        lines = ["above the figure at step 0:"] if len(high) > 1 else []
        lines += [f"{n} {number(s, 1)}" for n, s in high.items()]
        text = "\n".join(lines) if len(high) > 1 else f"above the figure at step 0: {lines[0]}"
        axes.text(0.99, 0.99, text, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=MUTED.light)


def paper_figure(paper: dict[str, Any]) -> Figure:
    """The paper's curves: word perplexity over tokens, from scratch and from CLP-Transfer's initialisation."""
    figure, axes = blank()
    palette = colours(paper["curves"])
    for name, curve in paper["curves"].items():
        _line(axes, _points(curve, "word_perplexity"), palette[name], name == REFERENCE, True)
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
    return [(p["tokens"], p[metric]) for p in curve if p.get(metric) is not None and math.isfinite(p[metric])]


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
