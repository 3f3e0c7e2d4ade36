"""Catalogue: every tool there is, in the order in which clients see them.

The order never changes within a version: a client's prompt cache hangs on it. A new family adds its file here and
nowhere else.
"""

from __future__ import annotations

from typing import Final

from mcp_server.tools import control, fleet, results, reviews, routing, submit, wait
from mcp_server.tools.tool import Definition

CATALOGUE: Final[tuple[Definition, ...]] = (
    *submit.DEFINITIONS,
    *wait.DEFINITIONS,
    *results.DEFINITIONS,
    *control.DEFINITIONS,
    *fleet.DEFINITIONS,
    *reviews.DEFINITIONS,
    *routing.DEFINITIONS,
)
