"""Reading fields of events: another program wrote them, so no type is believed.

Each function gives the value if it has the shape that was asked for, else the nearest empty one. Nothing here raises.
"""

from __future__ import annotations

import math
from typing import Any, Final, cast

from claude_pool.models.options import json_object
from claude_pool.text import storable

MOST_USD: Final = 1_000_000.0
MOST_COUNT: Final = 1 << 53


def text_of(holder: dict[str, Any], name: str) -> str | None:
    """A non-empty string, fit to be stored."""
    value = holder.get(name)
    return storable(value) if isinstance(value, str) and value else None


def map_of(holder: dict[str, Any], name: str) -> dict[str, Any]:
    """An object; keys of JSON objects are strings."""
    value = holder.get(name)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def list_of(holder: dict[str, Any], name: str) -> list[Any]:
    """A list."""
    value = holder.get(name)
    return cast("list[Any]", value) if isinstance(value, list) else []


def maps_of(holder: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [cast("dict[str, Any]", item) for item in list_of(holder, name) if isinstance(item, dict)]


def count_of(holder: dict[str, Any], name: str) -> int:
    """A whole number from 0 up to what a double holds exactly; 0 for anything else."""
    value = number_of(holder, name)
    return int(value) if value is not None and 0 <= value <= MOST_COUNT else 0


def number_of(holder: dict[str, Any], name: str) -> float | None:
    """A finite number."""
    value = holder.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def money_of(holder: dict[str, Any], name: str) -> float | None:
    """Dollars that a run can have cost, else None."""
    value = number_of(holder, name)
    return value if value is not None and 0 <= value <= MOST_USD else None


def json_of(value: Any) -> Any:
    """The value if it is JSON that every part of the pool can carry, else None."""
    try:
        return json_object({"value": value})["value"]
    except (ValueError, RecursionError):
        return None
