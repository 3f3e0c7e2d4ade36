"""Templates: prompts with markers, checked when a chain is handed in and filled in when a step starts. Pure.

    {previous_output}        the answer of the last step that has one
    {steps.NAME.output}      a step's answer; .state, .error, or one of its output_vars
    {args.NAME}              an argument of the chain
    {branches}               in a gather: every branch's answer, fenced
    {error}                  in a recovery prompt: what went wrong
    {{word}}                 a plain {word}

One pass: what is put in is never looked at again, so a marker that a model wrote stays text. A word between braces that
is no marker is refused at submit, with the way to write it as plain text. A long text goes to a file, of which the
prompt has the beginning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from claude_pool.errors import InvalidRequest
from claude_pool.models.base import Record
from claude_pool.text import storable

FOLDER: Final = ".claude-pool/inputs"
"""Where long texts go, below the workspace; never committed."""

PREVIOUS: Final = "previous_output"
BRANCHES: Final = "branches"
ERROR: Final = "error"
OWN_VARS: Final = frozenset({"output", "state", "error"})
"""What every step has, besides its output_vars."""

_WORD: Final = r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*"
_MARKER: Final = re.compile(rf"\{{\{{({_WORD})\}}\}}|\{{({_WORD})\}}")
_ARGUMENT: Final = re.compile(r"\{args\.([A-Za-z0-9_-]+)\}")
_FILE_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")


class Value(Record):
    """What a marker stands for. `path`: a file on this node with the whole of a text that was cut."""

    text: str
    path: str | None = None
    size: int | None = None
    """Bytes of the whole."""
    shown: str | None = None
    """What stands in the prompt instead of the text's beginning."""


class Scope(Record):
    """What may be looked at from one place of a chain."""

    args: frozenset[str] = frozenset()
    steps: dict[str, frozenset[str]] = {}  # noqa: RUF012 - pydantic copies defaults
    """Earlier steps and their output_vars."""
    later: frozenset[str] = frozenset()
    """This step and those behind it: for a better message."""
    previous: bool = True
    branches: bool = False
    error: bool = False


class Rendered(Record):
    """A prompt that is ready, and the files it speaks of: name below the workspace → text, or the file to copy."""

    text: str
    files: dict[str, Value] = {}  # noqa: RUF012 - pydantic copies defaults


def markers(template: str) -> Iterator[str]:
    """The markers of a template, in order."""
    return (match[2] for match in _MARKER.finditer(template) if match[2])


def check(template: str, scope: Scope, *, where: str) -> frozenset[str]:
    """The markers, if every one means something. Raises InvalidRequest, naming the first that does not."""
    found = frozenset(markers(template))
    for marker in sorted(found):
        if trouble := _trouble(marker, scope):
            raise InvalidRequest(
                f"{where}: {trouble}.", hint=f"For the plain text, double the braces: {{{{{marker}}}}}."
            )
    return found


def _trouble(marker: str, scope: Scope) -> str | None:
    """What is wrong with a marker; None when it means something here."""
    head, *rest = marker.split(".")
    whole = {PREVIOUS: scope.previous, BRANCHES: scope.branches, ERROR: scope.error}
    if not rest and whole.get(head):
        return None
    if head == "args" and len(rest) == 1:
        return None if rest[0] in scope.args else f"there is no argument {rest[0]!r}; {_there_are(scope.args)}"
    if head == "steps" and len(rest) == 2:
        return _step_trouble(rest[0], rest[1], scope)
    where = {PREVIOUS: "in a first step", BRANCHES: "outside a gather", ERROR: "outside a recovery prompt"}
    return f"{{{marker}}} means nothing " + where.get(head if not rest else "", "here")


def _step_trouble(step: str, name: str, scope: Scope) -> str | None:
    if step in scope.later:
        return f"step {step!r} comes later, so it has no output yet"
    if step not in scope.steps:
        return f"there is no step {step!r}; {_there_are(scope.steps)}"
    if name in OWN_VARS or name in scope.steps[step]:
        return None
    return f"step {step!r} has no output_var {name!r}; {_there_are(scope.steps[step] | OWN_VARS)}"


def _there_are(names: Collection[str]) -> str:
    return f"there are {', '.join(sorted(names))}" if names else "there are none before"


def render(template: str, value_of: Callable[[str], Value], *, most_bytes: int) -> Rendered:
    """The template with every marker replaced, once; texts above `most_bytes` leave a file and their beginning."""
    files: dict[str, Value] = {}

    def put_in(match: re.Match[str]) -> str:
        if match[1]:
            return f"{{{match[1]}}}"
        value = value_of(match[2])
        data = value.text.encode(errors="replace")
        if len(data) <= most_bytes and value.path is None and value.shown is None:
            return value.text
        name = f"{FOLDER}/{_FILE_NAME.sub('-', match[2])}.txt"
        files[name] = value
        if value.shown is not None:
            return f"{value.shown}\n[… shortened; the whole is in the file {name} …]\n"
        head = data[:most_bytes].decode(errors="ignore")
        return f"{head}\n[… the beginning of {value.size or len(data):,} bytes; the whole is in the file {name} …]\n"

    return Rendered(text=storable(_MARKER.sub(put_in, template)), files=files)


def as_text(value: Any) -> str:
    """A JSON value as a prompt shows it: texts as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def escaped(text: str, *, but: Collection[str] = ()) -> str:
    """A text as a template that renders to just this text; markers among `but` stay markers."""
    return _MARKER.sub(lambda match: match[0] if match[2] in but else f"{{{match[0]}}}", text)


def with_args(command: str, args: Mapping[str, str]) -> str:
    """A command with `{args.NAME}` filled in and all else as it is: braces have a meaning of their own in a shell.

    Nothing that a model said is ever put into a command. Raises InvalidRequest for an argument that there is not.
    """

    def put_in(match: re.Match[str]) -> str:
        if match[1] not in args:
            raise InvalidRequest(f"there is no argument {match[1]!r}; {_there_are(args)}.")
        return args[match[1]]

    return _ARGUMENT.sub(put_in, command)


def fill(template: str, values: Mapping[str, str]) -> str:
    """A template of one's own with plain names, `audit {target}`, filled in. Raises InvalidRequest for others."""
    for marker in markers(template):
        if marker not in values:
            raise InvalidRequest(
                f"There is no {{{marker}}} here; {_there_are(values)}.",
                hint=f"For the plain text, double the braces: {{{{{marker}}}}}.",
            )
    return _MARKER.sub(lambda match: f"{{{match[1]}}}" if match[1] else values[match[2]], template)
