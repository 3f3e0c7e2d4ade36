"""JSON paths: one value out of a step's answer. Pure.

    .            the whole                 files[0].name     a list's first, a field of it
    verdict      a field                   files[-1]         a list's last
    $.a.b        the same as a.b           a["odd.name"]     a field with any name

The answer is the structured output where there is one; else the text, as JSON whole or in its only fenced block. A
value that is not there raises Missing, which says how far the path led.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, cast

from claude_pool.text import one_line

_STEP: Final = re.compile(r'\.?([A-Za-z_][\w-]*)|\[(-?\d{1,9})\]|\[("(?:[^"\\]|\\.)*")\]')
_FENCED: Final = re.compile(r"^```[a-zA-Z0-9]*[ \t]*\n(.*?)\n```[ \t]*$", re.DOTALL | re.MULTILINE)
_SHOWN: Final = 120
_LARGEST: Final = 64 << 20


class Missing(ValueError):
    """The value is not there."""


def parse(path: str) -> tuple[str | int, ...]:
    """The path's steps. Raises ValueError for one that can't be read."""
    rest = path.strip().removeprefix("$")
    if rest in {"", "."}:
        return ()
    found: list[str | int] = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None:
            msg = f"{path!r} is no path: {rest[at:][:20]!r} can't be read; a.b[0] is one"
            raise ValueError(msg)
        name, index, quoted = match.groups()
        found.append(name if name is not None else int(index) if index is not None else str(json.loads(quoted)))
        at = match.end()
    return tuple(found)


def document(output: str, structured: Any = None) -> Any:
    """The answer as data. Raises Missing when it is no JSON."""
    if structured is not None:
        return structured
    for text in (output, *(match[1] for match in _only(_FENCED, output))):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            continue
    raise Missing(f"the answer is no JSON: {one_line(output, _SHOWN) or 'it is empty'}")


def _only(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    found = list(pattern.finditer(text[:_LARGEST]))
    return found if len(found) == 1 else []


def take(path: str, output: str, structured: Any = None) -> Any:
    """The value at the path. `.` of a text that is no JSON is the text. Raises Missing."""
    steps = parse(path)
    if not steps and structured is None:
        return output
    value = document(output, structured)
    done = "the answer"
    for step in steps:
        value = _inside(value, step, done)
        done = f"{done}[{step!r}]"
    return value


def _inside(value: Any, step: str | int, where: str) -> Any:
    if isinstance(step, int) and isinstance(value, list):
        listed = cast("list[Any]", value)
        if -len(listed) <= step < len(listed):
            return listed[step]
        raise Missing(f"{where} has {len(listed)} entries, so no [{step}]")
    if isinstance(step, str) and isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        if step in named:
            return named[step]
        raise Missing(f"{where} has no {step!r}; it has {one_line(', '.join(map(repr, named)), _SHOWN) or 'nothing'}")
    kind = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    raise Missing(f"{where} is {kind.get(cast('type[Any]', type(value)), 'a number')}, so there is no [{step!r}] in it")
