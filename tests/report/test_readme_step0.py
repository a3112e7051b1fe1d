"""The README's step-0 table is the one in `results/`."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_measured_value_is_in_the_readme() -> None:
    measured = json.loads((ROOT / "results/step0-smollm2/results.json").read_text())["bits_per_byte"]
    lines = (ROOT / "README.md").read_text().splitlines()
    for name, values in measured.items():
        label = "own tokenizer" if name == "own_tokenizer" else f"`{name}`"
        shown = " / ".join(dict.fromkeys(f"{value:.3f}" for value in values))
        assert any(line.startswith(f"| {label} | {shown} |") for line in lines), (name, shown)
