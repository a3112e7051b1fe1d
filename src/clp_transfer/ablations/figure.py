"""An ablation's picture: bits per byte at step 0 and at the end, with intervals over seeds."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from clp_transfer.ablations.table import CAPTIONS, FINAL, START
from clp_transfer.report.canvas import spread
from clp_transfer.report.palette import GRID, INK, MUTED, Colour, colours

WIDTH, HEIGHT, ROW = 7.4, 3.2, 0.27
PANELS = (START, FINAL)
LABEL_GAP = 0.055  # of the axes' height
WIDE = 3.0  # values that differ by more than this factor are drawn on a logarithmic axis


def figure(found: dict[str, Any]) -> Figure:
    """Two panels: variants across with a line per arm; of a single variant, an arm a row. Draw inside `styled()`."""
    labels = list(dict.fromkeys(row["label"] for row in found["rows"]))
    arms = list(dict.fromkeys(row["arm"] for row in found["rows"]))
    palette = colours(arms)
    if len(labels) == 1:
        return _rows(found, arms, palette)
    drawn = Figure(figsize=(WIDTH, HEIGHT))
    for index, measure in enumerate(PANELS):
        axes = drawn.add_axes((0.07 + 0.5 * index, 0.17, 0.33, 0.7))
        ends = {arm: _line(axes, found, labels, arm, measure, palette[arm]) for arm in arms}
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.2, len(labels) - 0.8)
        axes.set_xlabel(found["axis"], fontsize=8.5)
        axes.set_title(CAPTIONS[measure], loc="left", fontsize=9, color=MUTED.light)
        _finish(axes, "y")
        _widen(axes, "y", found, measure)
        _names(axes, {arm: end for arm, end in ends.items() if end is not None}, palette)
    return drawn


def _line(axes: Axes, found: dict[str, Any], labels: list[str], arm: str, measure: str, colour: Colour) -> float | None:
    rows = {row["label"]: row for row in found["rows"] if row["arm"] == arm}
    points = [(i, rows[label]) for i, label in enumerate(labels) if rows[label][measure] is not None]
    if not points:
        return None
    x, y = [i for i, _ in points], [row[measure] for _, row in points]
    axes.errorbar(
        x, y, _errors([row for _, row in points], measure), color=colour.light, marker="o", ms=3.4, lw=1.4,
        ls="--" if arm == "scratch" else "-", capsize=2, elinewidth=0.9,
    )  # fmt: skip
    return y[-1]


def _rows(found: dict[str, Any], arms: list[str], palette: dict[str, Colour]) -> Figure:
    """Arms down, the best at the end first."""
    order = sorted(found["rows"], key=lambda row: -row["final"] if row["final"] is not None else 0.0)
    drawn = Figure(figsize=(WIDTH, 0.8 + ROW * len(order)))
    for index, measure in enumerate(PANELS):
        axes = drawn.add_axes((0.12 + 0.45 * index, 0.1, 0.41, 0.8))
        for height, row in enumerate(order):
            if row[measure] is not None:
                axes.errorbar(
                    [row[measure]], [height], xerr=_errors([row], measure), color=palette[row["arm"]].light,
                    marker="o", ms=4.5, capsize=2.5, elinewidth=1.0,
                )  # fmt: skip
        axes.set_yticks(range(len(order)), [row["arm"] for row in order] if index == 0 else [])
        axes.set_title(CAPTIONS[measure], loc="left", fontsize=9, color=MUTED.light)
        _finish(axes, "both")
        _widen(axes, "x", found, measure)
    return drawn


def _widen(axes: Axes, name: str, found: dict[str, Any], measure: str) -> None:
    """Take logarithms where one arm would press all others together."""
    values = [row[measure] for row in found["rows"] if row[measure] is not None]
    if values and max(values) > WIDE * min(values):
        axes.set(**{f"{name}scale": "log", f"{name}lim": (min(values) / 1.1, max(values) * 1.25)})
        axis: Axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axis.set_minor_locator(NullLocator())


def _errors(rows: list[dict[str, Any]], measure: str) -> list[list[float]] | None:
    """Lengths below and above; the axis ends where an interval leaves it."""
    bounds = [row[f"{measure}_interval"] for row in rows]
    if None in bounds:
        return None
    bounds = [(max(low, 1e-3), high) for low, high in bounds]  # bits per byte are positive
    return [[row[measure] - low for row, (low, _) in zip(rows, bounds, strict=True)],
            [high - row[measure] for row, (_, high) in zip(rows, bounds, strict=True)]]  # fmt: skip


def _finish(axes: Axes, grid: Any) -> None:
    axes.grid(axis=grid, color=GRID.light, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=4, labelcolor=INK.light)


def _names(axes: Axes, ends: dict[str, float], palette: dict[str, Colour]) -> None:
    """Each arm's name at the end of its line, moved apart where lines end together."""
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [float(to_axes.transform((0, end))[1]) for end in ends.values()]
    for arm, height in zip(ends, spread(wanted, LABEL_GAP, 0.0, 1.0), strict=True):
        axes.annotate(
            arm, (1.02, height), xycoords="axes fraction", color=palette[arm].light,
            fontsize=8.5, va="center",
        )  # fmt: skip
