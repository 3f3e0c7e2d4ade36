"""From a prompt to the turns of the model that it scripts. Pure; the package's docstring lists the directives."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

Json = dict[str, Any]

_DIRECTIVE: Final = re.compile(r"\[\[([a-z][a-z-]*)(:|\]\])")
_BRACKETS: Final = re.compile(r"\[\[|\]\]")
_TOOL_HEAD: Final = re.compile(r"\s*[^\s{\]]+\s*")
_CLOSE: Final = re.compile(r"\s*\]\]")
_KEY: Final = re.compile(r"[a-z][a-z_-]*")
_FAULTS: Final = ("error", "sse-error", "cut", "hang")


@dataclass(frozen=True, slots=True)
class Directive:
    """One `[[name:arg]]`."""

    name: str
    arg: str


@dataclass(slots=True)
class Turn:
    """What one answer of the model consists of."""

    thinking: list[str] = field(default_factory=list[str])
    texts: list[str] = field(default_factory=list[str])
    tools: list[tuple[str, Json]] = field(default_factory=list[tuple[str, Json]])
    structured: Any = None
    echo_tool_result: bool = False
    stop: str | None = None
    sleep_s: float = 0.0
    gap_s: float = 0.0
    pieces: int | None = None
    faults: list[Directive] = field(default_factory=list[Directive])
    usage: dict[str, int] = field(default_factory=dict[str, int])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    model: str | None = None

    @property
    def filled(self) -> bool:
        return bool(self.texts or self.tools or self.structured is not None or self.echo_tool_result)

    def following(self) -> Turn:
        """An empty turn with what holds "from this turn on"."""
        kept = Turn(gap_s=self.gap_s, pieces=self.pieces, model=self.model)
        return replace(kept, usage=dict(self.usage), headers=dict(self.headers))


def directives(text: str) -> list[Directive]:
    """Every directive of a prompt, in order, with nested brackets kept inside."""
    found: list[Directive] = []
    at = 0
    while (match := _DIRECTIVE.search(text, at)) is not None:
        at = match.end()
        if match[2] == "]]":
            found.append(Directive(match[1], ""))
        elif (end := _argument_end(text, at, match[1])) is not None:
            found.append(Directive(match[1], text[at:end]))
            at = end + 2
    return found


def _argument_end(text: str, start: int, name: str) -> int | None:
    """Where the argument that begins at start ends: the index of its closing brackets."""
    if name in ("tool", "also", "json") and (end := _json_end(text, start, headed=name != "json")) is not None:
        return end
    depth = 0
    for match in _BRACKETS.finditer(text, start):
        if match[0] == "[[":
            depth += 1
        elif depth == 0:
            return match.start()
        else:
            depth -= 1
    return None


def _json_end(text: str, start: int, *, headed: bool) -> int | None:
    """The end of an argument that is JSON, which may hold any brackets; None when it is not."""
    head = _TOOL_HEAD.match(text, start) if headed else None
    try:
        _, end = json.JSONDecoder().raw_decode(text, head.end() if head else start)
    except ValueError:
        return None
    close = _CLOSE.match(text, end)
    return close.end() - 2 if close else None


def words(arg: str) -> tuple[dict[str, str], list[str]]:
    """`429 retry-after=3 some text` gives `{'retry-after': '3'}` and `['429', 'some', 'text']`."""
    keyed: dict[str, str] = {}
    plain: list[str] = []
    for word in arg.split():
        key, equals, value = word.partition("=")
        if equals and _KEY.fullmatch(key):
            keyed[key] = value
        else:
            plain.append(word)
    return keyed, plain


def _tool_call(arg: str) -> tuple[str, Json]:
    name, brace, rest = arg.strip().partition("{")
    return name.strip(), json.loads("{" + rest) if brace else {}


def _usage(turn: Turn, arg: str) -> None:
    turn.usage.update({key: int(value) for key, value in words(arg.replace(",", " "))[0].items()})


def _sleep(turn: Turn, arg: str) -> None:
    turn.sleep_s += float(arg)


def _gap(turn: Turn, arg: str) -> None:
    turn.gap_s = float(arg)


def _drip(turn: Turn, arg: str) -> None:
    keyed, plain = words(arg)
    turn.gap_s = float(plain[0]) if plain else 0.1
    turn.pieces = int(keyed.get("n", 20))


def _header(turn: Turn, arg: str) -> None:
    name, _, value = arg.partition("=")
    turn.headers[name.strip()] = value.strip()


def _model(turn: Turn, arg: str) -> None:
    turn.model = arg.strip()


def _echo(turn: Turn, _arg: str) -> None:
    turn.echo_tool_result = True


_AFTER_TOOLS: Final[dict[str, Callable[[Turn, str], None]]] = {
    "tool": lambda turn, arg: turn.tools.append(_tool_call(arg)),
    "say": lambda turn, arg: turn.texts.append(arg),
    "reply": lambda turn, arg: turn.texts.append(arg),
    "thinking": lambda turn, arg: turn.thinking.append(arg),
    "echo-tool-result": _echo,
    "usage": _usage,
    "sleep": _sleep,
    "gap": _gap,
    "drip": _drip,
    "header": _header,
    "model": _model,
}
"""Directives that begin a new turn when the one before has tool calls already."""


def script(prompt: str) -> list[Turn]:
    """The turns that a prompt asks for: at least one, the last a final reply. Raises ValueError on a bad argument."""
    turns = [Turn()]
    for directive in directives(prompt):
        _play(turns, directive)
    if turns[-1].tools:
        turns.append(turns[-1].following())
    return turns


def _play(turns: list[Turn], directive: Directive) -> None:
    """Put one directive into the turn that it belongs to."""
    now, name, arg = turns[-1], directive.name, directive.arg
    begins = name in {"turn", "json"} and now.filled
    if begins or (bool(now.tools) and (name in _AFTER_TOOLS or name in _FAULTS)):
        turns.append(now := now.following())
    if name in _AFTER_TOOLS:
        _AFTER_TOOLS[name](now, arg)
    elif name in _FAULTS:
        now.faults.append(directive)
    elif name == "also":
        now.tools.append(_tool_call(arg))
    elif name == "json":
        now.structured = json.loads(arg)
    elif name == "stop":
        now.stop = arg.strip()
