"""Arguments: the records behind the tools' parameters, and the schemas that a model is shown of them. Pure.

The options of a task are `TaskOptions` itself, inherited: a field that is added there is an argument of every tool that
submits, and none can drift. A schema tells a model what it needs to choose well, and no more, as each character costs
every session: no titles, no bounds that the record checks anyhow (with a better message), and for the seldom options
only name and type.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Annotated, Any, Final, cast

from pydantic import Field

from claude_pool.models.base import Record
from claude_pool.models.options import Prompt, TaskOptions

Schema = dict[str, Any]

Id = Annotated[str, Field(min_length=1, max_length=64)]

EXPLAINED: Final = frozenset(
    {
        "model", "permission_mode", "allowed_tools", "json_schema", "max_budget_usd", "timeout_s", "isolation",
        "session",
    }
)  # fmt: skip
"""Options that a coordinator often chooses: these keep their description in the schema of `pool_submit`."""

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
    idempotency_key: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        default=None, description="the same key gives the same task again"
    )
    title: Annotated[str, Field(max_length=200)] = Field(default="", description="for lists; default: from the prompt")

    def options(self) -> TaskOptions:
        """The options that were chosen, and only those."""
        chosen = self.model_fields_set & TaskOptions.model_fields.keys()
        return TaskOptions(**{name: getattr(self, name) for name in chosen})


def schema_of(model: type[Record], *, explained: Container[str] | None = None, first: tuple[str, ...] = ()) -> Schema:
    """What a model is shown of a record: required fields first. `explained` None keeps every description."""
    raw = model.model_json_schema()
    found = cast("dict[str, Schema]", _inlined(raw.get("properties", {}), cast("Schema", raw.get("$defs", {}))))
    required = list(cast("list[str]", raw.get("required", [])))
    order = [*required, *(name for name in first if name not in required)]
    order += [name for name in found if name not in order]
    own = Submission.model_fields.keys() - TaskOptions.model_fields.keys()
    properties = {
        name: _slim(found[name], described=explained is None or name in explained or name in own) for name in order
    }
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


def _slim(node: Schema, *, described: bool) -> Schema:
    """One property without what the record checks by itself; null, which means "not chosen", is not offered."""
    slim = {key: value for key, value in node.items() if key not in _CHECKED_BY_THE_RECORD}
    if "anyOf" in slim:
        choices = [one for one in cast("list[Schema]", slim.pop("anyOf")) if one.get("type") != "null"]
        slim = (_slim(choices[0], described=True) if len(choices) == 1 else {"anyOf": choices}) | slim
    if isinstance(items := slim.get("items"), dict):
        slim["items"] = _slim(cast("Schema", items), described=True)
    if "enum" in slim:
        slim["enum"] = [choice for choice in slim["enum"] if choice != NEVER_OVER_MCP]
    if not described:
        slim.pop("description", None)
    return slim
