"""Graphs: a chain or a fan-out as the store keeps it. Each step and branch is a task; a parent knows its children.

Graph        what is handed in at once: parents and tasks, each after its parent, children in their order
StepPlan     what a slot has to know of a task that is part of a graph; written once, at submit
StepNote     what earlier failures of the task mean for its next run
Whole        a parent as it is now
Outcome      what a task, or a fan-out, has to say to others
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from claude_pool.models.base import Record
from claude_pool.models.chain import Gate
from claude_pool.models.fanout import FanOutPolicy, OutputVar, StepFailurePolicy, WhenFailed
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import Task, TaskError, TaskRequest, TaskResult, TaskState

GATHER = "gather"
"""The position of a fan-out's gather among its children."""


class StepPlan(Record):
    """What turns a task into a step: where it works, what its prompt is made of, what has to hold at its end."""

    name: str
    chain: str | None = None
    """The chain whose branch it works on, and whose arguments it sees."""
    template: bool = True
    inputs: dict[str, str] = Field(default_factory=dict[str, str])
    """step's name → the task or fan-out that has its output; only those that are looked at."""
    previous: bool = False
    """`{previous_output}` is looked at."""
    fan_out: str | None = None
    """Of a gather: the fan-out that it gathers."""
    beside: bool = False
    """Of a branch within a chain: it works on a branch of its own that starts from the chain's."""
    policy: StepFailurePolicy = StepFailurePolicy()
    output_vars: dict[str, OutputVar] = Field(default_factory=dict[str, OutputVar])
    when: str | None = None
    gate: Gate | None = None
    session: Literal["fresh", "previous"] = "fresh"


class StepNote(Record):
    """What the runs before this one mean for it."""

    failures: int = 0
    error: str = ""
    recovering: bool = False
    """The next run asks the recovery prompt."""


class TaskNode(Record):
    """A task of a graph. `session_of`: the task whose session it continues."""

    id: str
    parent: str
    request: TaskRequest
    plan: StepPlan
    scopes: tuple[str, ...]
    """Ledgers that it is paid from, besides the pool's."""
    session_of: str | None = None
    gathers: bool = False

    @property
    def on_fail(self) -> WhenFailed:
        return self.plan.policy.then


class ParentNode(Record):
    """A chain or a fan-out of a graph."""

    id: str
    parent: str | None = None
    name: str = ""
    """As a step or a branch of its own parent."""
    title: str = ""
    tags: tuple[str, ...] = ()
    args: dict[str, str] = Field(default_factory=dict[str, str])
    on_fail: WhenFailed = "stop"
    policy: FanOutPolicy = FanOutPolicy.ALL
    quorum: int | None = None
    max_parallel: int | None = None
    total: int
    """Children, without a gather."""
    gather: str | None = None
    budget_usd: float | None = None
    timeout_s: float | None = None
    spec: str = ""
    """What was asked for, as JSON; of the root alone."""


class Graph(Record):
    """A whole graph; the first node is its root."""

    nodes: tuple[ParentNode | TaskNode, ...]

    @property
    def root(self) -> ParentNode:
        first = self.nodes[0]
        assert isinstance(first, ParentNode)
        return first

    def children(self, parent: str) -> tuple[str, ...]:
        """The ids below a parent, in their order, without a gather."""
        return tuple(
            node.id
            for node in self.nodes
            if node.parent == parent and not (isinstance(node, TaskNode) and node.gathers)
        )


class Whole(Record):
    """A chain or a fan-out as the store knows it now."""

    id: str
    state: TaskState
    """blocked, running, completed, failed or cancelled."""
    parent: str | None = None
    name: str = ""
    title: str = ""
    tags: tuple[str, ...] = ()
    args: dict[str, str] = Field(default_factory=dict[str, str])
    children: tuple[str, ...] = ()
    gather: str | None = None
    gathering: bool = False
    total: int = 0
    ended: int = 0
    ok: int = 0
    bad: int = 0
    open: int = 0
    waiting: TaskState | None = None
    """What it waits for somebody in: pending_review or parked; None while it goes on by itself."""
    stopping: str = ""
    """What it will be once its last child has ended, if that is decided already."""
    error: TaskError | None = None
    cost_usd: float = 0.0
    reserved_usd: float = 0.0
    budget_usd: float | None = None
    created_ms: int = 0
    started_ms: int | None = None
    since_ms: int = 0
    ended_ms: int | None = None
    event_id: str = ""
    spec: str = ""

    def as_task(self) -> Task:
        """What a wait, a list or a line on a screen says of it, in the words of tasks; it has no run of its own."""
        return Task(
            id=self.id,
            state=self.waiting or self.state,
            title=self.title,
            options=TaskOptions(tags=self.tags),
            created_ms=self.created_ms,
            since_ms=self.since_ms,
            queue="",
            cost_usd=self.cost_usd,
            reserved_usd=self.reserved_usd,
            error=self.error,
            progress="gathering" if self.gathering else f"{self.ended} of {self.total}",
            event_id=self.event_id,
            started_ms=self.started_ms,
            parent=self.parent,
            step=self.name,
        )


class Outcome(Record):
    """What a task has to say to the rest of its graph: its state, its answer and the values taken from it."""

    id: str
    name: str = ""
    state: TaskState
    skipped: bool = False
    result: TaskResult | None = None
    vars: dict[str, Any] = Field(default_factory=dict[str, Any])
    error: TaskError | None = None
    note: StepNote = StepNote()

    @property
    def word(self) -> str:
        """Its state, or `skipped`."""
        return "skipped" if self.skipped else self.state.value


class Inputs(Record):
    """What a step's prompt and condition are made of."""

    args: dict[str, str] = Field(default_factory=dict[str, str])
    previous: str | None = None
    """The last step before that has an output."""
    tip: str | None = None
    """The commit that the chain's branch was at after its last step."""
    outcomes: dict[str, tuple[Outcome, ...]] = Field(default_factory=dict[str, tuple[Outcome, ...]])
    """By the id of a task or of a fan-out: of a fan-out without a gather, all its branches."""
