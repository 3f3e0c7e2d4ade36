"""Conditions: `when` of a step, over what earlier steps said. Pure; nothing in it is ever executed.

    {steps.review.verdict} != "approved" and {steps.build.state} == "completed"
    not ({args.mode} == "quick") or {steps.count.n} > 3
    {previous_output} contains "NEEDS WORK"

`or` binds weaker than `and`, that weaker than `not`; `== != < <= > >= contains` compare. A marker is its value as JSON
has it; numbers compare with texts that are numbers. By itself a value holds unless it is empty, 0, false or null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, cast

from claude_pool.errors import InvalidRequest
from claude_pool.templates import Scope, as_text, check

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<marker>\{[^{}]*\})|(?P<text>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<op>==|!=|<=|>=|<|>|\(|\))|(?P<word>[A-Za-z_]+))"
)
_COMPARE: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "contains"})
_NAMED: Final = {"true": True, "false": False, "null": None}
_DEEPEST: Final = 50

Look = Callable[[str], Any]
"""A marker's value, by its name without braces."""
Test = Callable[[Look], Any]


class _Token(NamedTuple):
    kind: str
    text: str


def check_condition(text: str, scope: Scope, *, where: str) -> frozenset[str]:
    """The markers of a condition that can be read. Raises InvalidRequest."""
    parse(text, where=where)
    return check(text, scope, where=where)


def holds(text: str, look: Look) -> bool:
    """Whether a condition holds. Raises InvalidRequest for one that can't be read."""
    return _truth(parse(text, where="when")(look))


def parse(text: str, *, where: str) -> Test:
    """The condition, ready to be asked. Raises InvalidRequest."""
    reader = _Reader(list(_tokens(text, where)), text, where)
    test = reader.either(0)
    if (left := reader.peek()) is not None:
        reader.fail(f"{left.text!r} is too much")
    return test


def _tokens(text: str, where: str) -> Iterator[_Token]:
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidRequest(f"{where}: the condition {text!r} can't be read at {text[at:].strip()[:20]!r}.")
        kind = match.lastgroup or ""
        word = match[kind]
        yield _Token("op" if kind == "word" and word in {"and", "or", "not", "contains"} else kind, word)
        at = match.end()


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[_Token], text: str, where: str) -> None:
        self._tokens = tokens
        self._at = 0
        self._text = text
        self._where = where

    def fail(self, why: str) -> None:
        raise InvalidRequest(
            f"{self._where}: the condition {self._text!r} can't be read: {why}.",
            hint='Such as: {steps.review.verdict} != "ok" and not {args.quick}',
        )

    def peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _took(self, *words: str) -> str | None:
        token = self.peek()
        if token is not None and token.kind == "op" and token.text in words:
            self._at += 1
            return token.text
        return None

    def either(self, depth: int) -> Test:
        first = self._both(depth)
        while self._took("or"):
            first = _either(first, self._both(depth))
        return first

    def _both(self, depth: int) -> Test:
        first = self._negated(depth)
        while self._took("and"):
            first = _both(first, self._negated(depth))
        return first

    def _negated(self, depth: int) -> Test:
        if depth > _DEEPEST:
            self.fail("it is nested too deep")
        if self._took("not"):
            inner = self._negated(depth + 1)
            return lambda look: not _truth(inner(look))
        return self._compared(depth)

    def _compared(self, depth: int) -> Test:
        if self._took("("):
            inner = self.either(depth + 1)
            if not self._took(")"):
                self.fail("a bracket is not closed")
            return inner
        left = self._value()
        if (how := self._took(*_COMPARE)) is None:
            return left
        right = self._value()
        return lambda look: _compare(how, left(look), right(look))

    def _value(self) -> Test:
        token = self.peek()
        if token is None or token.kind == "op":
            self.fail(f"a value is missing {'at the end' if token is None else f'before {token.text!r}'}")
        token = cast("_Token", token)
        self._at += 1
        if token.kind == "marker":
            name = token.text[1:-1]
            return lambda look: look(name)
        literal = self._literal(token)
        return lambda _: literal

    def _literal(self, token: _Token) -> Any:
        if token.kind == "number":
            return float(token.text)
        if token.kind == "text":
            return re.sub(r"\\(.)", r"\1", token.text[1:-1])
        if token.text not in _NAMED:
            self.fail(f"{token.text!r} means nothing; text stands in quotes")
        return _NAMED[token.text]


def _either(first: Test, second: Test) -> Test:
    return lambda look: _truth(first(look)) or _truth(second(look))


def _both(first: Test, second: Test) -> Test:
    return lambda look: _truth(first(look)) and _truth(second(look))


def _truth(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else bool(value)


def _compare(how: str, left: Any, right: Any) -> bool:
    if how == "contains":
        return _contains(left, right)
    if how in {"==", "!="}:
        return _equal(left, right) == (how == "==")
    numbers = _number(left), _number(right)
    if numbers[0] is None or numbers[1] is None:
        return False
    a, b = numbers[0], numbers[1]
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[how]


def _contains(left: Any, right: Any) -> bool:
    if isinstance(left, list):
        return any(_equal(one, right) for one in cast("list[Any]", left))
    if isinstance(left, dict):
        return as_text(right) in cast("dict[str, Any]", left)
    return as_text(right) in as_text(left)


def _equal(left: Any, right: Any) -> bool:
    numbers = _number(left), _number(right)
    if numbers[0] is not None and numbers[1] is not None:
        return numbers[0] == numbers[1]
    if isinstance(left, str) and isinstance(right, str):
        return left.strip() == right.strip()
    if isinstance(left, str) != isinstance(right, str):  # a text that says what the other is
        return as_text(left).strip().lower() == json.dumps(right) if isinstance(left, str) else _equal(right, left)
    return left == right


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
