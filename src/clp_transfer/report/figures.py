"""All figures of the report: drawn, written as PNG and SVG, and given for inlining."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from clp_transfer.report import bars, curves
from clp_transfer.report.canvas import styled, write


def draw(results: dict[str, Any], folder: Path) -> dict[str, str]:
    """Write every figure below `folder`; returns SVG by figure name (see `canvas.inlined`).

    Names: `perplexity`, `word_perplexity`, `byte_perplexity`, `nats`, `bits` (the curves in every unit), `paper`,
    `saved` and `step0-<source>`; one with nothing to show is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with styled():
        figures = {
            **curves.unit_figures(results),
            "paper": curves.paper_figure(results["paper"]),
            "saved": bars.saved_figure(results),
        }
        for source, bits in results["step0"].items():
            figures[step0_name(source)] = bars.step0_figure(bits)
        return {name: write(figure, folder / name) for name, figure in figures.items() if figure is not None}


def step0_name(source: str) -> str:
    """The step-0 figure's name for a source, safe as a file name."""
    return f"step0-{re.sub(r'[^A-Za-z0-9_-]+', '-', source)}"
