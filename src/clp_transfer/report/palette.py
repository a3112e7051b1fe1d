"""One colour per arm, the same in every figure and table, told apart by colour-blind readers, light and dark.

Figures are drawn in the light colours. Inside the page each colour becomes a CSS variable, so that the figures
follow the reader's light or dark setting.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Colour:
    """A CSS variable's name and its two values; every light value is unique (figures are matched by it)."""

    name: str
    light: str
    dark: str


INK = Colour("ink", "#1d2129", "#eceae4")
MUTED = Colour("muted", "#5f6673", "#a5a9b1")
GRID = Colour("grid", "#dfdcd3", "#3a3e46")
CARD = Colour("card", "#fffefb", "#1e2127")

# Paul Tol's bright scheme (safe for the common colour-blindnesses), darkened for text on white.
ARMS = {
    "scratch": Colour("arm-scratch", "#6b7079", "#b4b8bf"),
    "clp": Colour("arm-clp", "#d1394b", "#f2808d"),
    "ridge": Colour("arm-ridge", "#33669e", "#7db3ea"),
    "clp-topk": Colour("arm-clp-topk", "#a12f73", "#df83bb"),
    "fvt": Colour("arm-fvt", "#237d35", "#72c583"),
    "mean": Colour("arm-mean", "#93800c", "#d8c750"),
    "random": Colour("arm-random", "#168aa8", "#66ccee"),
}
SPARE = [
    Colour("spare-0", "#c4601d", "#f0a269"),
    Colour("spare-1", "#5b4fb0", "#a9a0ee"),
    Colour("spare-2", "#7a4b2a", "#cfa07c"),
    Colour("spare-3", "#3f7f78", "#86cbc3"),
    Colour("spare-4", "#8a5a9e", "#c79bd8"),
    Colour("spare-5", "#4f6b1f", "#a9c468"),
    Colour("spare-6", "#b0485f", "#ec98a8"),
    Colour("spare-7", "#2f5f6b", "#7fb6c4"),
]


def colours(arms: Iterable[str]) -> dict[str, Colour]:
    """The colour of each arm; an arm this project does not know takes the next spare one, in the order given.

    Arms of one name in several experiments (`mini/ridge`) share its colour; their marks tell them apart.
    """
    own = {arm: arm.rsplit("/", 1)[-1] for arm in arms}
    unknown = list(dict.fromkeys(name for name in own.values() if name not in ARMS))
    return {arm: ARMS[name] if name in ARMS else SPARE[unknown.index(name) % len(SPARE)] for arm, name in own.items()}


def everything() -> list[Colour]:
    """All colours, for the page's style sheet."""
    return [INK, MUTED, GRID, CARD, *ARMS.values(), *SPARE]
