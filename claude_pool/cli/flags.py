"""One flag per field of TaskOptions, made from the model itself, so that model and command line can't drift apart.

    @with_task_options
    def submit(prompt: …, *, options: dict[str, Any], …) -> int

A field `max_turns` is `--max-turns`; durations drop their unit (`--timeout` takes seconds), plurals are repeated
(`--allowed-tool A --allowed-tool B`). Only flags that were given are in `options`; what they may be is the model's
business.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from claude_pool.errors import InvalidRequest
from claude_pool.models.options import TaskOptions

NAMES: Final = {
    "allowed_tools": "allowed-tool",
    "disallowed_tools": "disallowed-tool",
    "tools": "tool",
    "tags": "tag",
    "mcp_servers": "mcp-server",
    "timeout_s": "timeout",
    "silence_timeout_s": "silence-timeout",
    "review_expires_s": "review-expires",
}
"""Flags that are not simply the field's name with dashes."""

_PANELS: Final = {
    "Limits": ("max_turns", "max_budget_usd", "timeout_s", "silence_timeout_s"),
    "Tools": ("permission_mode", "allowed_tools", "disallowed_tools", "tools", "mcp_servers"),
    "Workspace": ("repo", "isolation", "base_ref", "working_dir", "env"),
    "Review": ("review", "max_rejections", "review_expires_s"),
    "When things go wrong": ("on_lost", "max_attempts", "max_continuations", "max_infra_retries", "max_crashes"),
}
_MORE: Final = {
    "json_schema": ": JSON or @FILE",
    "mcp_servers": ': JSON {"name": {…}} or @FILE, repeatable',
    "tools": "; here `none` stands for []",
    "repo": "; default: the settings' repository, else the git repository around the working directory; `none`: no one",
}


def flag(field: str) -> str:
    """The flag of a field: `--max-turns`."""
    return "--" + NAMES.get(field, field.replace("_", "-"))


def with_task_options(verb: Callable[..., int]) -> Callable[..., int]:
    """The verb with a flag for every field of TaskOptions; it gets those that were given as `options`."""
    own = inspect.signature(verb, eval_str=True)

    @functools.wraps(verb)
    def with_options(**values: Any) -> int:
        chosen = {name: values.pop(name) for name in TaskOptions.model_fields}
        return verb(**values, options={name: read(name, value) for name, value in chosen.items() if value is not None})

    parameters = [parameter for parameter in own.parameters.values() if parameter.name != "options"]
    parameters += [_parameter(name, info) for name, info in TaskOptions.model_fields.items()]
    with_options.__signature__ = own.replace(parameters=parameters)  # pyright: ignore[reportAttributeAccessIssue] - typer asks for it
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del with_options.__wrapped__  # pyright: ignore[reportAttributeAccessIssue] - typer would look behind us
    return with_options


def _parameter(name: str, info: FieldInfo) -> inspect.Parameter:
    panel = next((title for title, names in _PANELS.items() if name in names), "The task")
    option = typer.Option(
        flag(name), help=f"{info.description}{_MORE.get(name, '')}", rich_help_panel=panel, metavar=_metavar(name, info)
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[_type(name, info.annotation), option]
    )


def _metavar(name: str, info: FieldInfo) -> str | None:
    if name in {"json_schema", "mcp_servers"}:
        return "JSON"
    if name.endswith("_s"):
        return "SECONDS"
    kinds = _members(info.annotation)
    plain = any(get_origin(kind) is Literal or kind in {int, float, bool} for kind in kinds)
    return None if plain else "TEXT"


def _type(name: str, annotation: Any) -> Any:
    """What typer is to make of a flag: a choice, a number, text, or a list of texts. The model does the rest."""
    kinds = _members(annotation)
    for kind in kinds:
        if get_origin(kind) is Literal:
            return kind | None
    if bool in kinds:
        return bool | None
    if int in kinds:
        return int | None
    if float in kinds:
        return float | None
    return list[str] | None if tuple in kinds or name == "mcp_servers" else str | None


def _members(annotation: Any) -> tuple[Any, ...]:
    """The types in an annotation, without None, and without their constraints."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return tuple(kind for part in get_args(annotation) if part is not type(None) for kind in _members(part))
    return (tuple,) if get_origin(annotation) is tuple else (annotation,)


def read(field: str, value: Any) -> Any:
    """What the model shall get for a flag's value. Raises InvalidRequest for JSON that is none."""
    if field == "json_schema":
        return json_argument(flag(field), value)
    if field == "mcp_servers":
        return _servers(value)
    if field == "tools" and value == ["none"]:
        return ()
    return tuple(cast("list[str]", value)) if isinstance(value, list) else value


def json_argument(name: str, text: str) -> dict[str, Any]:
    """A JSON object given inline, or in the file after an `@`."""
    if text.startswith("@"):
        text = read_file(text[1:], name)
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(
            f"{name} is not JSON: {error}.", hint=f"Inline JSON or @FILE: {name} @schema.json"
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name} must be a JSON object, not {type(value).__name__}.")
    return cast("dict[str, Any]", value)


def _servers(texts: list[str]) -> dict[str, Any]:
    """Servers by name, from any number of objects; the `mcpServers` wrapper of `.mcp.json` files is taken off."""
    found: dict[str, Any] = {}
    for text in texts:
        given = json_argument(flag("mcp_servers"), text)
        inner = given.get("mcpServers")
        found |= cast("dict[str, Any]", inner) if isinstance(inner, dict) else given
    return found


def read_file(path: str, what: str) -> str:
    """A text file that an argument names; `-` is stdin. Raises InvalidRequest."""
    try:
        if path == "-":
            return sys.stdin.buffer.read().decode()
        return Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"{what}: {path} can't be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{what}: {path} is not UTF-8 text.") from None
