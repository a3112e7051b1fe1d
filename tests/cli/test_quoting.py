"""Values with letters that Hydra's grammar lacks."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from clp_transfer.cli.quoting import quote_letters


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("explain=Straßenbahn", "Straßenbahn"),
        ("explain=die Straße", "die Straße"),
        ("out=/tmp/größe/日本", "/tmp/größe/日本"),
        ("explain='Straße'", "Straße"),
        ("method=clp", "clp"),
    ],
)
def test_hydra_reads_the_value_as_it_was_typed(given: str, value: str) -> None:
    (override,) = OverridesParser.create().parse_overrides(quote_letters([given]))
    assert override.value() == value


def test_a_sweep_stays_a_sweep() -> None:
    (override,) = OverridesParser.create().parse_overrides(quote_letters(["explain=Straße,Haus"]))
    assert override.is_sweep_override() and list(override.sweep_string_iterator()) == ["'Straße'", "Haus"]


def test_options_lists_and_plain_values_are_left_alone() -> None:
    given = ["--cfg", "job", "-m", "arms=[größe,b]", "seeds=[1,2]", "optim.lr=1e-3"]
    assert quote_letters(given) == given
