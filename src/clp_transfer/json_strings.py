"""The strings of a JSON document, however deep they lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def json_strings(value: Any) -> Iterator[str]:
    """All string values of a parsed JSON document, in its order; the keys of objects are none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from json_strings(inner)
