"""Fields of a row, named by a path with dots, and rows that are left out for what a field says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

MISSING: Any = object()


def field(path: str) -> Callable[[dict[str, Any]], Any]:
    """What gets the field from a row, MISSING where there is none; a key that itself has dots comes first."""
    if "." not in path:
        return lambda row: row.get(path, MISSING)
    parts = path.split(".")

    def nested(row: dict[str, Any]) -> Any:
        value: Any = row
        if path in row:
            return row[path]
        for part in parts:
            if not isinstance(value, dict) or part not in value:
                return MISSING
            value = value[part]
        return value

    return nested


def unwanted(value: Any, values: frozenset[str]) -> str | None:
    """Which of the values it is, or one of its members is; other types than strings compare as JSON writes them."""
    for member in value if isinstance(value, list) else [value]:
        written = member if isinstance(member, str) else json.dumps(member, default=str)
        if written in values:
            return written
    return None


def drop_rule(drop: Mapping[str, list[str]]) -> Callable[[dict[str, Any]], str | None]:
    """What says why a row is left out (`dropped_<value>`), or None; a row without the field stays."""
    rules = [(field(path), frozenset(map(str, values))) for path, values in drop.items()]

    def reason(row: dict[str, Any]) -> str | None:
        for get, values in rules:
            if (value := get(row)) is not MISSING and (found := unwanted(value, values)) is not None:
                return f"dropped_{found}"
        return None

    return reason
