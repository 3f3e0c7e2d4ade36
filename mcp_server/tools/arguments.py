"""Arguments: the records behind the tools' parameters, and the schemas that a model is shown of them. Pure.

The options of a task are `TaskOptions` itself, inherited: a field that is added there is an argument of every tool that
submits, and none can drift. A schema tells a model what it needs to choose well, and no more, as each character costs
every session: no titles, no bounds that the record checks anyhow (with a better message), and of the seldom options of
a task only the name.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Annotated, Any, Final, cast

from pydantic import Field

from claude_pool.models.base import Record
from claude_pool.models.options import Prompt, TaskOptions

Schema = dict[str, Any]

Id = Annotated[str, Field(min_length=1, max_length=64)]

EXPLAINED: Final = frozenset({"model", "allowed_tools", "json_schema", "max_budget_usd", "timeout_s", "session"})
"""Options that a coordinator often chooses: `pool_submit` explains these. It is always loaded, so all other tools with
options show just their names."""

NEVER_OVER_MCP: Final = "bypassPermissions"
"""A permission mode that is refused here (`rights`), so it is not offered either."""

_CHECKED_BY_THE_RECORD: Final = frozenset(
    {
        "title", "default", "pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
        "exclusiveMaximum", "minItems", "maxItems", "additionalProperties",
    }
)  # fmt: skip


class Nothing(Record):
    """No arguments."""


class Submission(TaskOptions):
    """One task to hand in: the prompt, and every option of a task under its own name."""

    prompt: Prompt = Field(description="what the worker shall do; it sees nothing of this conversation")
    skill: Annotated[str, Field(max_length=64)] | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="the same key gives the same task again"
    )
    title: Annotated[str, Field(max_length=200)] = Field(default="", description="for lists")


def options_of(asked: TaskOptions) -> TaskOptions:
    """The options of a task that were chosen among a tool's arguments, and only those."""
    chosen = asked.model_fields_set & TaskOptions.model_fields.keys()
    return TaskOptions(**{name: getattr(asked, name) for name in chosen})


@cache
def types_of(model: type[Record]) -> dict[str, str]:
    """The JSON type of each field that has just one."""
    whole = schema_of(model, explained=TaskOptions.model_fields)
    return {name: one["type"] for name, one in whole["properties"].items() if "type" in one}


def schema_of(model: type[Record], *, explained: Iterable[str] = (), first: tuple[str, ...] = ()) -> Schema:
    """What a model is shown of a record: required fields first; of the options of a task but `explained` the name."""
    raw = model.model_json_schema()
    found = cast("dict[str, Schema]", _inlined(raw.get("properties", {}), cast("Schema", raw.get("$defs", {}))))
    required = list(cast("list[str]", raw.get("required", [])))
    order = [*required, *(name for name in first if name not in required)]
    order += [name for name in found if name not in order]
    seldom = (TaskOptions.model_fields.keys() if issubclass(model, TaskOptions) else set[str]()) - set(explained)
    properties: Schema = {name: {} if name in seldom else _slim(found[name]) for name in order}
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | ({"required": required} if required else {})


def _inlined(node: Any, definitions: Schema) -> Any:
    """The same with every reference replaced by what it refers to: some clients' models don't follow references."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    members = cast("Schema", node)
    if isinstance(reference := members.get("$ref"), str):
        words = {
            name: text for name, text in definitions[reference.rpartition("/")[2]].items() if name != "description"
        }
        members = words | {name: value for name, value in members.items() if name != "$ref"}
    return {name: _inlined(value, definitions) for name, value in members.items()}


def _slim(node: Schema) -> Schema:
    """One property without what the record checks by itself; null, which means "not chosen", is not offered."""
    slim = {key: value for key, value in node.items() if key not in _CHECKED_BY_THE_RECORD}
    if "anyOf" in slim:
        choices = [_slim(one) for one in cast("list[Schema]", slim.pop("anyOf")) if one.get("type") != "null"]
        slim = (choices[0] if len(choices) == 1 else {"anyOf": choices}) | slim
    if isinstance(items := slim.get("items"), dict):
        slim["items"] = _slim(cast("Schema", items))
    if "enum" in slim:
        slim["enum"] = [choice for choice in slim["enum"] if choice != NEVER_OVER_MCP]
    return slim
