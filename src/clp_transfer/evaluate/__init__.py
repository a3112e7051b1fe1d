"""Stage `evaluate`: perplexity in every unit, zero-shot tasks, and step-0 values of each transfer method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clp_transfer.evaluate.api import perplexity_of as perplexity_of


def __getattr__(name: str) -> Any:
    """`perplexity_of`, imported when it is first asked for: it brings torch, which the configs must not."""
    if name == "perplexity_of":
        from clp_transfer.evaluate.api import perplexity_of

        return perplexity_of
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
