"""Events: one per transition on the pool's stream, and the lines of a task's live log."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from claude_pool.models.base import Record
from claude_pool.models.task import TaskState


class TaskEvent(Record):
    """Something happened to a task, chain, slot or pool. `id` orders all events of one pool."""

    id: str
    at_ms: int
    verb: str
    subject: str
    """The id of what it happened to: usually a task."""
    state: TaskState | None = None
    """The state after it; None for events that are no transition."""
    was: TaskState | None = None
    run_id: str | None = None
    slot: str | None = None
    reason: str = ""


LogKind = Literal["start", "text", "thinking", "tool", "tool_result", "retry", "limit", "notice", "error", "result"]


class LogEntry(Record):
    """One readable line of a run, made from one event of the CLI. Text is clean of control characters.

    The whole event is in the log file on the node; this is what travels through Redis for people who watch.
    """

    id: str = ""
    at_ms: int = 0
    run_id: str
    kind: LogKind
    text: str = ""
    tool: str | None = None
    data: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Small structured extras, such as `cost_usd` of a result."""
