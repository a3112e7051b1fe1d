"""The paper's own curves, kept as data with their source, and what the same formula saves on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from clp_transfer.report.savings import share_saved, tokens_at

PATH = Path(__file__).with_name("paper_curve.yaml")


def paper() -> dict[str, Any]:
    """The file's contents, its curves as [{tokens, word_perplexity}], and `saved` computed from them."""
    data = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    curves = {name: [(billions * 1e9, value) for billions, value in points] for name, points in data["curves"].items()}
    target = curves["scratch"][-1][1]
    clp, scratch = tokens_at(curves["clp"], target), tokens_at(curves["scratch"], target)
    data["curves"] = {
        name: [{"tokens": tokens, "word_perplexity": value} for tokens, value in points]
        for name, points in curves.items()
    }
    data["saved"] = {
        "reference_word_perplexity": target,
        "scratch_tokens": scratch,
        "arm_tokens": clp,
        "saved": share_saved(clp, scratch),
    }
    return data
