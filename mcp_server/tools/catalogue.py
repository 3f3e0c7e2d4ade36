"""Catalogue: every tool there is, in the order in which clients see them.

The order never changes within a version: a client's prompt cache hangs on it. A new family adds its file here and
nowhere else. A toolset is a choice of them: `core` are the few that are always loaded, for clients that can't load more
on demand; what is not in it can't be called.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from mcp_server.tools import branches, context, control, fleet, graphs, results, reviews, routing, submit, wait
from mcp_server.tools.tool import Definition

CATALOGUE: Final[tuple[Definition, ...]] = (
    *submit.DEFINITIONS,
    *wait.DEFINITIONS,
    *results.DEFINITIONS,
    *control.DEFINITIONS,
    *fleet.DEFINITIONS,
    *reviews.DEFINITIONS,
    *routing.DEFINITIONS,
    *branches.DEFINITIONS,
    *graphs.DEFINITIONS,
    *context.DEFINITIONS,
)

Toolset = Literal["core", "full"]
TOOLSETS: Final[tuple[Toolset, ...]] = get_args(Toolset)


def toolset(name: Toolset) -> tuple[Definition, ...]:
    """The tools of a toolset, in the order of the catalogue."""
    return CATALOGUE if name == "full" else tuple(one for one in CATALOGUE if one.core)
