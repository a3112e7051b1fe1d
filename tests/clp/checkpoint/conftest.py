"""One tiny model of each family, with 83 rows: a number that no other dimension has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tiny.families import FAMILIES, Family, quieten, save_family

ROWS = 83


@pytest.fixture(scope="session")
def make_family(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Family]:
    """Make a family's tiny model; `save` are options of save_pretrained, the other keywords settings."""

    def make(name: str, save: dict[str, Any] | None = None, **settings: Any) -> Family:
        return save_family(name, tmp_path_factory.mktemp(name), ROWS, save, **settings)

    quieten()
    return make


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest, make_family: Callable[..., Family]) -> Family:
    return make_family(request.param)
