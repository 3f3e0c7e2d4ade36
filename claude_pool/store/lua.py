"""The store's scripts: read from `scripts/`, put together, named by their digest.

Each is the lifecycle table and the field lists (rendered from Python, their only source), then `lib.lua`, `money.lua`
and `breaker.lua`, then the script's own text. Scripts in `SETTLING` must work on a server whose memory is full, or
money and results would be lost with it; the rest must not, or a full server would fill up further.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from claude_pool.lifecycle import as_lua
from claude_pool.store.codec import FACTS, RECORD
from claude_pool.store.graph_codec import OUTCOME, PARENT, WHOLE

FOLDER: Final = Path(__file__).parent / "scripts"
PARTS: Final = ("lib", "money", "breaker", "sessions", "graph")
SETTLING: Final = frozenset(
    {
        "finish",
        "beat",
        "cancel",
        "release",
        "reap",
        "forget",
        "leave_slot",
        "leave_node",
        "beat_node",
        "order_slot",
        "bury_slot",
        "graph_cancel",
        "graph_tend",
    }
)

_FLAG: Final = "#!lua flags=allow-oom\n"
"""From Redis 7.0 on."""
_FIRST_WRITE: Final = "redis.call('DEL', KEYS[1] .. ':-')\n"
"""Before 7.0 a script that has begun to write may go on when memory is full, and deleting nothing is a write."""


class Script(NamedTuple):
    """A script as the server gets it, and the name the server knows it by."""

    text: str
    sha: str


def _list(names: tuple[str, ...]) -> str:
    return "{" + ",".join(f"'{name}'" for name in names) + "}"


@cache
def _prelude() -> str:
    lists = {"FACTS": FACTS, "RECORD": RECORD, "PARENT": PARENT, "WHOLE": WHOLE, "OUTCOME": OUTCOME}
    rendered = f"local MOVES = {as_lua()}\n"
    rendered += "".join(f"local {name} = {_list(fields)}\n" for name, fields in lists.items())
    return rendered + "\n".join((FOLDER / f"{part}.lua").read_text() for part in PARTS)


@cache
def script(name: str, *, flags: bool) -> Script:
    """The named script; `flags` says that the server understands script flags."""
    text = "\n".join((_prelude(), (FOLDER / f"{name}.lua").read_text()))
    if name in SETTLING:
        text = (_FLAG if flags else _FIRST_WRITE) + text
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def names() -> list[str]:
    """Every script's name."""
    return sorted(path.stem for path in FOLDER.glob("*.lua") if path.stem not in PARTS)
