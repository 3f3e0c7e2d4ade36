"""Verbs for shared context: context set, get, delete, list."""

from __future__ import annotations

import time
from typing import Annotated, Final

import typer

from claude_pool.cli import output
from claude_pool.cli.counter import Json, open_pool
from claude_pool.cli.render import Table, span
from claude_pool.cli.tasks import read_prompt
from claude_pool.documents import of_context, of_context_list
from claude_pool.text import clean, one_line

HELP: Final = """Shared context: what every worker is told besides its prompt, or those whose task has a tag."""

EXAMPLES: Final = {
    "context set": """claude-pool context set style "Tabs, never spaces."
claude-pool context set api-notes --file notes.md --tag backend""",
    "context get": """claude-pool context get style
claude-pool context get style --history --json""",
    "context delete": "claude-pool context delete api-notes --tag backend",
    "context list": """claude-pool context list
claude-pool context list --tag backend --json""",
}

Key = Annotated[str, typer.Argument(metavar="KEY", help="Its name.")]
Tag = Annotated[str, typer.Option(help="Only for tasks with this tag.", metavar="TAG", show_default=False)]


def context_set(
    key: Key,
    value: Annotated[str | None, typer.Argument(help="The text; - reads it from stdin.", show_default=False)] = None,
    *,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Read the text from this file.", metavar="PATH")
    ] = None,
    tag: Tag = "",
    as_json: Json = False,
) -> int:
    """Set a text that workers are told from their next run on; the one before goes into the history."""
    text = read_prompt(value, file, what="value")
    with open_pool() as pool:
        entry = pool.context_set(key, text, namespace=tag)
    output.answer(of_context(entry), f"{entry.key}  {len(entry.value.encode()):,} bytes", as_json=as_json)
    return output.DONE


def context_get(
    key: Key,
    *,
    tag: Tag = "",
    history: Annotated[bool, typer.Option("--history", help="With the values it had before.")] = False,
    as_json: Json = False,
) -> int:
    """Show a text."""
    with open_pool() as pool:
        entry = pool.context_get(key, namespace=tag)
        before = pool.context_history(key, namespace=tag) if history else []
    lines = [clean(entry.value), *(f"\nbefore:\n{clean(one.value)}" for one in before)]
    document = of_context(entry) | ({"history": [of_context(one) for one in before]} if history else {})
    output.answer(document, *lines, as_json=as_json)
    return output.DONE


def context_delete(key: Key, *, tag: Tag = "", as_json: Json = False) -> int:
    """Forget a text and its history."""
    with open_pool() as pool:
        pool.context_delete(key, namespace=tag)
    output.answer({"key": key, "deleted": True}, f"{key}  deleted", as_json=as_json)
    return output.DONE


def context_list(
    *,
    tag: Annotated[str | None, typer.Option(help="Only this tag's.", metavar="TAG", show_default=False)] = None,
    as_json: Json = False,
) -> int:
    """List what workers are told, in the order in which they are."""
    with open_pool() as pool:
        entries = pool.context_list(namespace=tag)
    now_ms = time.time_ns() // 1_000_000
    rows = tuple(
        (one.key, one.namespace or "all", span(max(0, now_ms - one.set_ms)), one.by, one_line(one.value))
        for one in entries
    )
    shown = Table(("KEY", "FOR", "AGE", "BY", "VALUE"), rows, frozenset({"AGE"})) if rows else "Nothing is shared yet."
    output.answer(of_context_list(entries), shown, as_json=as_json)
    return output.DONE
