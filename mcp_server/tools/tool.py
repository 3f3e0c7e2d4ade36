"""Tool: how a definition becomes a tool of the protocol, and a call of it becomes an answer.

A definition is data: words, the record of its arguments, what it gives, and one function over the pool. Everything that
all tools share happens here, once: the token's scope, checked arguments with unknown ones refused by name, the pool's
errors in words that a model can act on, and an answer whose text and structure say the same. A fault of ours is logged
whole and told without its inside.
"""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field, InstanceOf, ValidationError

from claude_pool.errors import InvalidRequest, NotFound, PoolError
from claude_pool.models.base import Record, explain
from claude_pool.models.task import Submitter
from mcp_server.counter import Counter
from mcp_server.fence import plain
from mcp_server.rights import Scope, check_scope
from mcp_server.tools.arguments import Schema, schema_of, types_of

if TYPE_CHECKING:
    from claude_pool.pool import Pool

_log = logging.getLogger(__name__)

Document = dict[str, Any]
Effect = Literal["reads", "adds", "changes", "ends"]
"""What a tool does to the pool: nothing; new work; a setting; or an end that can't be taken back."""
A = TypeVar("A", bound=Record)
T = TypeVar("T")

_ALWAYS_LOADED: Final = {"anthropic/alwaysLoad": True}
_RECENT: Final = 5


@dataclass(frozen=True)
class Call:
    """One call of a tool: who asks, and whom it can ask."""

    counter: Counter
    submitter: Submitter
    context: Context[Counter]

    async def ask(self, question: Callable[[Pool], T]) -> T:
        """A question to the pool, outside the event loop."""
        return await self.counter.ask(question)

    async def report(self, beat: int, message: str) -> None:
        """A sign of life; `beat` must rise from one to the next."""
        await self.context.report_progress(beat, message=message)


@dataclass(frozen=True)
class Definition:
    """One tool. `description` is all that a model is told about it, in at most 300 characters, and a constant."""

    name: str
    title: str
    description: str
    arguments: type[Record]
    work: Callable[[Call, Any], Awaitable[Document]]
    gives: Schema
    effect: Effect
    scope: Scope
    idempotent: bool = True
    core: bool = False
    """One of the few whose definition a client loads at the start."""
    parameters: Schema | None = None
    """The arguments' schema, when it is not simply the record's."""

    @property
    def annotations(self) -> ToolAnnotations:
        """The hints of the protocol, true ones."""
        reads = self.effect == "reads"
        return ToolAnnotations(
            read_only_hint=reads,
            destructive_hint=None if reads else self.effect == "ends",
            idempotent_hint=None if reads else self.idempotent,
            open_world_hint=self.effect == "adds",  # a worker may reach whatever it is allowed to
        )


class PoolTool(Tool):
    """A definition as the SDK wants it."""

    definition: InstanceOf[Definition] = Field(exclude=True)

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:  # noqa: FBT001, FBT002 - the SDK's signature
        """Carry out one call. Raises ToolError with what went wrong and what to do, and nothing else."""
        del convert_result
        definition = self.definition
        try:
            token = get_access_token()
            check_scope(definition.scope, None if token is None else token.scopes)
            counter: Counter = context.request_context.lifespan_context
            who = counter.submitter if token is None else Submitter(name=token.client_id, kind="mcp")
            call = Call(counter, who, context)
            document = await definition.work(call, checked(definition.arguments, arguments))
        except PoolError as error:
            raise ToolError(await told(error, context)) from None
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is told what to do about it
            _log.exception("%s failed by a fault of claude-pool", self.name)
            raise ToolError(
                f"internal_error: {self.name} failed by a fault of claude-pool itself ({type(error).__name__}); the"
                " server's log has the details. Look at pool_status before you try again."
            ) from None
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=document)


def checked(model: type[A], arguments: dict[str, Any]) -> A:
    """The arguments as a record. Raises InvalidRequest, which names what is wrong."""
    types = types_of(model)
    given = {name: _parsed(value, types.get(name)) for name, value in arguments.items() if value is not None}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        unknown = sorted(given.keys() - model.model_fields.keys())
        raise InvalidRequest(explain(error), hint=_suggestion(unknown, list(model.model_fields))) from None


def _parsed(value: Any, wanted: str | None) -> Any:
    """A list or object that a client sent as its JSON text."""
    if not isinstance(value, str) or wanted not in {"array", "object"}:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _suggestion(unknown: list[str], names: list[str]) -> str:
    if not unknown:
        return ""
    near = {name: close[0] for name in unknown if (close := difflib.get_close_matches(name, names, 1))}
    if near:
        return "Did you mean " + ", ".join(f"{right} for {wrong}" for wrong, right in near.items()) + "?"
    return f"The arguments are: {', '.join(names) or 'none'}."


async def told(error: PoolError, context: Context[Any, Any]) -> str:
    """An error for a model: its code, what is wrong, what to do, and, for an unknown id, which ids there are."""
    missing = re.match(r"There is no (task|chain|fan-out|review)\b", error.message)
    if not isinstance(error, NotFound) or missing is None:
        return f"{error.code}: {error}"
    counter: Counter = context.request_context.lifespan_context
    try:
        page = await counter.ask(partial(_latest, chains=missing[1] in {"chain", "fan-out"}))
    except PoolError:
        page = ""
    return f"{error.code}: {plain(str(error), 400)} {page}Call pool_list_tasks for more."


def _latest(pool: Pool, *, chains: bool) -> str:
    ids = [one.id for one in (pool.chains(limit=_RECENT) if chains else pool.list(limit=_RECENT).tasks)]
    what = "chains and fan-outs" if chains else "tasks"
    return f"The latest {what} are {', '.join(ids)}. " if ids else f"This pool has no {what} yet. "


def make_tool(definition: Definition) -> PoolTool:
    """The tool of a definition."""
    return PoolTool(
        fn=definition.work,
        name=definition.name,
        title=definition.title,
        description=definition.description,
        parameters=definition.parameters or schema_of(definition.arguments),
        fn_metadata=FuncMetadata(arg_model=ArgModelBase, output_schema=definition.gives),
        is_async=True,
        context_kwarg="context",
        annotations=definition.annotations,
        meta=_ALWAYS_LOADED if definition.core else None,
        definition=definition,
    )
