"""Records about the pool itself: slots, nodes, status, drain."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from claude_pool.models.base import Record

SlotId = str
"""`slot-<number>@<node>`, also the name of the slot's Celery worker."""


def slot_id(number: int, node: str) -> SlotId:
    """The name of a node's n-th slot."""
    return f"slot-{number}@{node}"


class SlotState(StrEnum):
    """What a slot is doing."""

    IDLE = "idle"
    BUSY = "busy"
    LEAVING = "leaving"
    """Finishes what it runs and takes nothing more."""
    ERRORED = "errored"
    """Could not be kept alive; its node's supervisor says why."""


class SlotIdentity(Record):
    """Who a slot is, when it registers: a name plus proof of which incarnation speaks."""

    slot_id: SlotId
    node: str
    number: int
    incarnation: str
    pid: int
    boot_id: str = ""


class Slot(Record):
    """A slot as the store knows it. A slot whose lease ran out is not listed."""

    slot_id: SlotId
    node: str
    number: int
    state: SlotState
    pid: int = 0
    task_id: str | None = None
    run_id: str | None = None
    since_ms: int = 0
    tasks_done: int = 0
    reason: str = ""


class NodeMode(StrEnum):
    """What a node is asked to be."""

    RUN = "run"
    DRAIN = "drain"
    """Finish what runs, take nothing more, leave."""
    STOP = "stop"
    """Checkpoint what runs at once, leave."""


class NodeIdentity(Record):
    """Who a node is, when its supervisor registers."""

    node: str
    incarnation: str
    host: str
    pid: int
    version: str
    protocol: int
    slots: int
    min_slots: int = 0
    max_slots: int = 256
    simulated: bool = False
    """Its CLI talks to the simulated model."""


class NodeOrders(Record):
    """What the pool wants of a node; a supervisor reads it at every beat."""

    mode: NodeMode = NodeMode.RUN
    slots: int
    deadline_ms: int | None = None
    """For a drain: after this the running tasks are checkpointed."""
    store_seen: str = ""
    """What the node has to remember of the store, to know it again (`PoolStore.prepare`)."""


class Node(Record):
    """A node as the store knows it."""

    identity: NodeIdentity
    orders: NodeOrders
    alive: bool


class PoolStatus(Record):
    """The pool in one screen. Costs the same however many tasks are finished."""

    pool: str
    accepting: bool = True
    slots: int = 0
    idle: int = 0
    busy: int = 0
    nodes: int = 0
    blocked: int = 0
    pending: int = 0
    claimed: int = 0
    running: int = 0
    parked: int = 0
    pending_review: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    spent_usd: float = 0.0
    reserved_usd: float = 0.0
    budget_usd: float | None = None
    simulated: bool = False
    notes: tuple[str, ...] = ()
    """What needs somebody: no slots, an open breaker, a reset store. One sentence each."""


class DrainSummary(Record):
    """What a drain left behind."""

    finished: tuple[str, ...] = ()
    """Tasks that ran to their end while draining."""
    checkpointed: tuple[str, ...] = ()
    """Tasks stopped at the deadline; they resume when slots come back."""
    waiting: int = 0
    """Tasks still pending, parked or blocked."""
    slots_left: int = 0
    """Slots that did not leave in time."""
    duration_ms: int = 0
    cost_usd: float = 0.0
    timed_out: bool = False


Health = Literal["ok", "warning", "error"]


class Finding(Record):
    """One line of `claude-pool doctor`."""

    name: str
    health: Health
    detail: str
    hint: str = ""
