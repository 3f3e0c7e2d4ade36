"""What a prompt tells the fake `claude` to do: its `[[fake:NAME key=value …]]` directives, in order. Pure.

A value is a word, or a JSON string in double quotes when it holds blanks or brackets. A bare word is a flag. What is
not a directive is ordinary prompt text. A name that no mode has is refused by `fake_claude`, not here.
"""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False  # spares the fake the 3 ms that importing typing costs, in every run
if TYPE_CHECKING:
    from collections.abc import Mapping

_DIRECTIVE = re.compile(r'\[\[fake:([a-z0-9-]+)((?:"(?:[^"\\]|\\.)*"|[^"\]]|\](?!\]))*)\]\]', re.DOTALL)
_WORD = re.compile(r'([a-z_-]+)=("(?:[^"\\]|\\.)*"|[^\s"]\S*)|(\S+)', re.DOTALL)

_PLAIN = re.compile(r"[\w./:+@,-]+")


class Step:
    """One directive: its name, its place in the prompt and its arguments."""

    def __init__(self, name: str, args: Mapping[str, str] | None = None, index: int = 0) -> None:
        self.name = name
        self.args = dict(args or {})
        self.index = index

    def text(self, key: str, default: str = "") -> str:
        return self.args.get(key, default)

    def number(self, key: str, default: float = 0.0) -> float:
        """The argument as a number; raises ValueError, naming the directive, when it is none."""
        raw = self.args.get(key)
        if raw is None:
            return default
        try:
            return float(raw)
        except ValueError:
            msg = f"[[fake:{self.name}]]: {key}={raw!r} is no number"
            raise ValueError(msg) from None

    def whole(self, key: str, default: int = 0) -> int:
        return int(self.number(key, default))

    def has(self, key: str) -> bool:
        return key in self.args


def _value(raw: str) -> str:
    return str(json.loads(raw, strict=False)) if raw.startswith('"') else raw


def steps(prompt: str) -> list[Step]:
    """Every directive of a prompt. Raises ValueError on a quoted value that is no JSON string."""
    found: list[Step] = []
    for index, match in enumerate(_DIRECTIVE.finditer(prompt)):
        args: dict[str, str] = {}
        for word in _WORD.finditer(match[2]):
            if word[1]:
                args[word[1]] = _value(word[2])
            else:
                args[word[3]] = ""
        found.append(Step(match[1], args, index))
    return found


def directive(name: str, **arguments: str | float | bool) -> str:
    """The text of a directive, quoted where needed: `directive("ok", text="two words")`. True makes a flag."""
    words = [f"[[fake:{name}"]
    for key, value in arguments.items():
        if value is True:
            words.append(key)
        elif value is not False:
            text = str(value)
            words.append(f"{key}={text if _PLAIN.fullmatch(text) else json.dumps(text)}")
    return " ".join(words) + "]]"
