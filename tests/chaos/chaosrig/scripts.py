"""The store's scripts with something changed in their text: a clock that can be moved, or a seeded bug.

A change names the exact text that it replaces, so that it fails loudly when the scripts move on without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final, NamedTuple
from unittest import mock

from claude_pool.store import client, lua

EVERYWHERE: Final = "*"


class Edit(NamedTuple):
    """In one script, or in all of them: this text becomes that one."""

    script: str
    old: str
    new: str


CLOCK: Final = Edit(
    EVERYWHERE,
    "local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)",
    "local now = tonumber(redis.call('GET', P .. ':now'))",
)
"""Time is what `<P>:now` says and moves only when somebody moves it: no seed depends on the machine's speed."""


def apply(name: str, text: str, edits: tuple[Edit, ...]) -> str:
    """The text of one script after all edits that concern it. Raises LookupError when one does not fit any more."""
    for edit in edits:
        if edit.script not in {EVERYWHERE, name}:
            continue
        if text.count(edit.old) != 1:
            msg = f"{name}.lua holds this {text.count(edit.old)} times instead of once: {edit.old!r}"
            raise LookupError(msg)
        text = text.replace(edit.old, edit.new)
    return text


@contextmanager
def edited(*edits: Edit) -> Iterator[None]:
    """While this lasts, every store of this process runs the edited scripts."""

    @cache
    def script(name: str, *, flags: bool) -> lua.Script:
        text = apply(name, lua.script(name, flags=flags).text, edits)
        return lua.Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    with mock.patch.object(client, "script", script):
        yield
