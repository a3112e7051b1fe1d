"""The figures' common look, and how one is written: PNG and SVG files, and an SVG to put into the page."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clp_transfer.report.palette import CARD, GRID, INK, MUTED, everything

SIZE = (4.6, 3.45)
STYLE: Any = {
    "font.size": 9.0,
    "font.family": ["DejaVu Sans"],
    "text.color": INK.light,
    "axes.labelcolor": MUTED.light,
    "axes.edgecolor": MUTED.light,
    "axes.facecolor": "none",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED.light,
    "ytick.color": MUTED.light,
    "figure.facecolor": CARD.light,
    # Text stays text (it can be searched, and takes the page's font); ids depend on the content alone.
    "svg.fonttype": "none",
    "svg.hashsalt": "clp-transfer",
}


def blank(size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    """An empty figure, in inches, with one pair of axes; call it, and draw, inside `styled()`."""
    figure = Figure(figsize=size)
    axes = figure.add_axes((0.09, 0.13, 0.70, 0.78))
    axes.grid(axis="y", color=GRID.light, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=4)
    return figure, axes


def make_room(axes: Axes, labels: list[str]) -> None:
    """Narrow the axes where the labels right of them would not fit beside; 8.5 point text."""
    widest = max((len(label) for label in labels), default=0) * 0.0152 + 0.03
    box = axes.get_position()
    axes.set_position((box.x0, box.y0, min(box.width, max(0.4, 1 - box.x0 - widest)), box.height))


def title(figure: Figure, text: str) -> None:
    """What is drawn, at the figure's top left."""
    figure.text(0.0, 0.975, text, fontsize=9, color=MUTED.light, va="center")


def styled() -> Any:
    """A context in which matplotlib uses this project's look, whatever the user's own settings."""
    return rc_context(STYLE)


def write(figure: Figure, path: Path) -> str:
    """Write `path` with .png (200 dots per inch) and .svg; returns the SVG for inlining (see `inlined`)."""
    # The files get a margin; in the page the card has one, and panels of one size keep their axes aligned.
    margin: Any = {"bbox_inches": "tight", "pad_inches": 0.15}
    plain = {"Date": None, "Creator": None, "Type": None, "Format": None}
    figure.savefig(path.with_suffix(".png"), dpi=200, metadata={"Software": None}, **margin)
    figure.savefig(path.with_suffix(".svg"), metadata=plain, **margin)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=plain)
    return inlined(buffer.getvalue(), path.stem)


def inlined(svg: str, name: str) -> str:
    """An SVG document made fit to stand inside HTML.

    No prolog, no metadata; ids made unique to the figure; colours as CSS variables; the page's own font;
    no fixed size, so that it scales with the column.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    svg = svg.replace(' xmlns="http://www.w3.org/2000/svg"', "")
    svg = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", r'<svg \1 aria-hidden="true">', svg, count=1)
    svg = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 var(--figure-font)", svg)
    for colour in everything():
        svg = svg.replace(colour.light, f"var(--{colour.name})")
    return svg.strip()


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions as near as they can be to the wanted ones, in their order, at least `gap` apart, within bounds.

    Where the bounds cannot hold them all, the gap shrinks to what they can.
    """
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # Groups of labels that touch: each [sum of (wanted - offset), members]; neighbours that overlap merge.
    groups: list[tuple[float, list[int]]] = []
    for index in order:
        total, members = wanted[index], [index]
        while groups and _start(*groups[-1]) + len(groups[-1][1]) * gap > _start(total, members):
            before, earlier = groups.pop()
            total = before + total - len(earlier) * gap * len(members)
            members = earlier + members
        groups.append((total, members))
    placed = [0.0] * len(wanted)
    for total, members in groups:
        for offset, index in enumerate(members):
            placed[index] = _start(total, members) + offset * gap
    return _within([placed[i] for i in order], order, gap, low, high)


def _start(total: float, members: list[int]) -> float:
    return total / len(members)


def _within(placed: list[float], order: list[int], gap: float, low: float, high: float) -> list[float]:
    for i, value in enumerate(placed):
        placed[i] = max(value, low + i * gap)
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], high - (len(placed) - 1 - i) * gap)
    result = [0.0] * len(placed)
    for position, index in zip(placed, order, strict=True):
        result[index] = position
    return result
