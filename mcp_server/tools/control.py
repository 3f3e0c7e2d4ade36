"""Tools that look over the pool and stop work: pool_status, pool_list_tasks, pool_cancel."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from claude_pool.documents import Document, of_stopped
from claude_pool.models.base import Record
from claude_pool.models.options import PlainText, Tag
from claude_pool.models.pool import PoolStatus, Slot
from claude_pool.models.task import TaskState
from claude_pool.models.workspace import Outlook
from mcp_server.tools.answers import gives, status_document, task_line
from mcp_server.tools.arguments import Id
from mcp_server.tools.tool import Call, Definition

if TYPE_CHECKING:
    from claude_pool.pool import Pool


class Status(Record):
    """How much to tell."""

    detail: Literal["brief", "full"] = Field(default="brief", description="full: each slot, too")


class Which(Record):
    """Which tasks to list."""

    states: tuple[TaskState, ...] = ()
    tags: Annotated[tuple[Tag, ...], Field(max_length=32)] = Field(default=(), description="all of them")
    by: Annotated[PlainText, Field(max_length=200)] | None = Field(default=None, description="whose: the field by")
    limit: Annotated[int, Field(ge=1, le=200)] = 20
    after: Annotated[str, Field(max_length=64)] | None = Field(default=None, description="next of the page before")


class Cancel(Record):
    """Which task to stop."""

    task_id: Id
    reason: Annotated[PlainText, Field(max_length=200)] = ""


async def status(call: Call, asked: Status) -> Document:
    """The pool in a few numbers."""
    full = asked.detail == "full"
    found, slots, outlook = await call.ask(partial(_look, full=full))
    return status_document(found, notes=call.counter.notes, slots=slots, outlook=outlook)


def _look(pool: Pool, *, full: bool) -> tuple[PoolStatus, list[Slot] | None, Outlook]:
    return pool.status(), pool.slots() if full else None, pool.glance()


async def list_tasks(call: Call, which: Which) -> Document:
    """A page of tasks, newest first."""
    page = await call.ask(
        lambda pool: pool.list(
            states=which.states, tags=which.tags, submitter=which.by, limit=which.limit, after=which.after
        )
    )
    document: Document = {"tasks": [task_line(task) for task in page.tasks]}
    return document | ({"next": page.next} if page.next else {})


async def cancel(call: Call, asked: Cancel) -> Document:
    """Stop one task for good."""
    reason = asked.reason or f"cancelled by {call.submitter.name}"
    return of_stopped(await call.ask(lambda pool: pool.cancel(asked.task_id, reason=reason)))


DEFINITIONS: Final = (
    Definition(
        name="pool_status",
        title="Pool status",
        description="The pool now: slots, tasks by state, money spent and its limit. Not for waiting: use pool_wait.",
        arguments=Status,
        work=status,
        gives=gives(
            {"budget_usd": float},
            slots=int,
            idle=int,
            busy=int,
            pending=int,
            running=int,
            parked=int,
            pending_review=int,
            spent_usd=float,
        ),
        effect="reads",
        scope="read",
        core=True,
    ),
    Definition(
        name="pool_list_tasks",
        title="List tasks",
        description="Tasks of the pool, newest first, also those of other coordinators and of earlier sessions.",
        arguments=Which,
        work=list_tasks,
        gives=gives({"next": str}, tasks=list),
        effect="reads",
        scope="read",
    ),
    Definition(
        name="pool_cancel",
        title="Cancel a task",
        description=(
            "Stop a task for good. A waiting one ends at once; a running one is stopped and keeps its cost, branch and"
            " partial output. The only tool that ends work. Cancel only tasks whose ids you know from submitting them."
        ),
        arguments=Cancel,
        work=cancel,
        gives=gives({"stopping": bool}, task_id=str, state=str),
        effect="ends",
        scope="submit",
    ),
)
