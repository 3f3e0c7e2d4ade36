"""Tools for shared context: context_set, context_get, context_delete, context_list."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from claude_pool.documents import Document, of_context, of_context_list
from claude_pool.models.base import Record
from claude_pool.models.context import ContextKey, Namespace
from claude_pool.models.options import PlainText
from mcp_server.tools.answers import gives
from mcp_server.tools.tool import Call, Definition

_For = Annotated[Namespace, Field(description="tag whose tasks are told; default: all tasks")]


class Set(Record):
    """What to tell."""

    key: ContextKey
    value: PlainText
    namespace: _For = ""


class Named(Record):
    """Which."""

    key: ContextKey
    namespace: _For = ""


class Get(Named):
    """Which, and how much of it."""

    history: bool = False


class Listed(Record):
    """Which namespace."""

    namespace: Namespace | None = None


async def context_set(call: Call, asked: Set) -> Document:
    """Tell workers something from now on."""
    entry = await call.ask(
        lambda pool: pool.on_behalf_of(call.submitter).context_set(asked.key, asked.value, namespace=asked.namespace)
    )
    return {name: value for name, value in of_context(entry).items() if name != "value"}


async def context_get(call: Call, asked: Get) -> Document:
    """What workers are told."""
    document = of_context(await call.ask(lambda pool: pool.context_get(asked.key, namespace=asked.namespace)))
    if asked.history:
        before = await call.ask(lambda pool: pool.context_history(asked.key, namespace=asked.namespace))
        document["history"] = [of_context(one) for one in before]
    return document


async def context_delete(call: Call, asked: Named) -> Document:
    """Tell it no more."""
    await call.ask(lambda pool: pool.context_delete(asked.key, namespace=asked.namespace))
    return {"key": asked.key, "deleted": True}


async def context_list(call: Call, asked: Listed) -> Document:
    """All that workers are told, without the texts."""
    entries = await call.ask(lambda pool: pool.context_list(namespace=asked.namespace))
    return of_context_list(entries, values=False)


DEFINITIONS: Final = (
    Definition(
        name="context_set",
        title="Set shared context",
        description="Tell all workers, or those of a tag, a text of at most 64 KiB at the start of each later run.",
        arguments=Set,
        work=context_set,
        gives=gives(key=str, bytes=int),
        effect="changes",
        scope="submit",
    ),
    Definition(
        name="context_get",
        title="Get shared context",
        description="One text of the shared context, with its earlier values if asked.",
        arguments=Get,
        work=context_get,
        gives=gives(key=str, value=str),
        effect="reads",
        scope="read",
    ),
    Definition(
        name="context_delete",
        title="Delete shared context",
        description="Remove a text, with its history, from the shared context.",
        arguments=Named,
        work=context_delete,
        gives=gives(key=str, deleted=bool),
        effect="ends",
        scope="submit",
    ),
    Definition(
        name="context_list",
        title="List shared context",
        description="What workers are told, in order: keys, tags and sizes.",
        arguments=Listed,
        work=context_list,
        gives=gives(entries=list),
        effect="reads",
        scope="read",
    ),
)
