"""Store: where every fact of a pool lives. The protocols; `claude_pool.store.redis` implements them.

A `Store` is a bundle of small protocols, so that a caller names what it needs and a test doubles only that. Promises
that every implementation keeps, checked by `claude_pool.testing.contracts`:

S1  submit is atomic and idempotent: one key, one task, however often and from wherever it is called
S2  of any number of claims for one task exactly one wins
S3  every write of a run is fenced by its run id; a stale one changes nothing and says so
S4  each transition is in the lifecycle table, and adds exactly one event
S5  a final state never changes; its cost was settled exactly once
S6  deadlines are the store's own clock; no caller's clock decides anything
S7  in every scope of the ledger `reserved + spent <= limit` at every moment a claim is granted
S8  finish, beat and cancel work when the store is full; submit and claim say so instead
S9  reading status costs the same however many tasks are finished
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from claude_pool.models.base import Record
from claude_pool.models.events import LogEntry, TaskEvent
from claude_pool.models.pool import (
    Node,
    NodeIdentity,
    NodeMode,
    NodeOrders,
    PoolStatus,
    Slot,
    SlotIdentity,
)
from claude_pool.models.task import RunRecord, Task, TaskDetail, TaskRequest, TaskState
from claude_pool.models.verdict import Verdict


class Submitted(Record):
    """What submit answers. `created` is False when the idempotency key had been seen with the same request."""

    task_id: str
    state: TaskState
    created: bool


class Doorbell(Record):
    """What has to be rung: an id, a queue, a priority."""

    task_id: str
    queue: str
    priority: int


class RefusedClaim(StrEnum):
    """Why a claim was not granted. All are harmless: the doorbell was late, repeated or forged."""

    UNKNOWN = "unknown"
    NOT_PENDING = "not_pending"
    NO_BUDGET = "no_budget"
    BREAKER = "breaker"
    FENCED = "fenced"
    """The slot itself is not, or no longer, the registered one."""
    STORE_RESET = "store_reset"


class Claim(Record):
    """A slot's right to one run of one task."""

    task: Task
    prompt: str
    run_id: str
    number: int
    kind: Literal["attempt", "continuation"]
    cap_usd: float | None
    """Reserved in the ledger, and given to the CLI as its limit."""
    resume_session_id: str | None
    session_cost_usd: float
    """The session's running total before this run."""
    lost_before: bool
    """The run before this one was lost: the workspace may hold its unsaved work."""
    feedback: tuple[str, ...] = ()
    """What reviewers said to earlier runs."""


class Beat(Record):
    """The store's answer to a heartbeat. Fenced means: stop at once, somebody else may have the task."""

    fenced: bool = False
    cancel: str | None = None
    leaving: bool = False


class Lost(Record):
    """A run whose lease ran out, and what became of its task."""

    task_id: str
    run_id: str
    state: TaskState
    bell: Doorbell | None = None


class TaskFilter(Record):
    """Which tasks to list. Newest first; `after` is the id where the page before ended."""

    states: tuple[TaskState, ...] = ()
    tags: tuple[str, ...] = ()
    """All of them."""
    submitter: str | None = None
    limit: int = 50
    after: str | None = None


class Page(Record):
    """A page of tasks; `next` is None on the last one."""

    tasks: tuple[Task, ...] = ()
    next: str | None = None


class TaskStore(Protocol):
    """Tasks and their transitions. Every method raises Unreachable when the store does not answer."""

    def submit(self, requests: Sequence[TaskRequest], *, queue: str) -> list[Submitted]:
        """Store new tasks, one atomic step each, in one round trip. Raises KeyReused, PoolDrained, StoreFull."""
        ...

    def get(self, task_id: str) -> Task:
        """Raises NotFound."""
        ...

    def get_many(self, task_ids: Sequence[str]) -> dict[str, Task]:
        """What is known of these, without those that do not exist."""
        ...

    def detail(self, task_id: str) -> TaskDetail:
        """With prompt, runs and result. Raises NotFound."""
        ...

    def list(self, wanted: TaskFilter) -> Page: ...

    def claim(self, task_id: str, slot: SlotIdentity, run_id: str, *, lease_ms: int) -> Claim | RefusedClaim:
        """pending → claimed, with the money reserved; what does not fit the budget is parked and refused."""
        ...

    def release(self, task_id: str, run_id: str, *, reason: str) -> bool:
        """claimed → pending, free: nothing was spent. False when stale. Raises StoreReset."""
        ...

    def start(self, task_id: str, run_id: str, *, session_id: str) -> bool:
        """claimed → running, durable before the process is spawned. False when stale: do not spawn.

        Raises StoreReset.
        """
        ...

    def finish(self, task_id: str, run_id: str, verdict: Verdict) -> Task | None:
        """running → what the verdict says; settles the money once. None when stale: nothing was written.

        A run that was declared lost, but that nobody took over yet, may still finish. A cancel that was accepted
        wins over any verdict: the task ends cancelled, with result and cost kept. Calling it twice is harmless: the
        second call changes nothing and answers the task as it is now. A claimed run that never started may finish as
        well, but not well. Raises StoreReset: keep the verdict.
        """
        ...

    def cancel(self, task_id: str, *, reason: str) -> Task:
        """Ends a waiting task at once; asks the slot of a running one to stop it. Raises NotFound.

        Final tasks are returned unchanged.
        """
        ...

    def hold(self, task_id: str, *, reason: str) -> Task:
        """pending → parked until `wake`. Raises Conflict from any other state."""
        ...

    def wake(self, task_id: str) -> Doorbell | None:
        """parked → pending. None when it is not parked."""
        ...

    def runs(self, task_id: str) -> tuple[RunRecord, ...]: ...


class Housekeeping(Protocol):
    """What the one housekeeper of a pool does, in bounded batches."""

    def lead(self, holder: str, *, ttl_ms: int) -> bool:
        """Take or keep the housekeeper's lease."""
        ...

    def reap(self, *, slack_ms: int, limit: int = 100) -> list[Lost]:
        """Runs whose lease ran out more than `slack_ms` ago: moved by their `on_lost` policy."""
        ...

    def due(self, *, limit: int = 500) -> list[Doorbell]:
        """Parked tasks whose time has come: moved to pending."""
        ...

    def unrung(self, *, queue_empty: bool = False, limit: int = 500) -> list[Doorbell]:
        """Pending tasks whose doorbell is overdue; each gets a later time to be rung again, twice as far.

        The first time comes a minute after the task became pending. A caller who knows that no doorbell is queued
        says so, and gets every pending task that has not been rung for some seconds.
        """
        ...

    def forget(self, *, older_than_ms: int, limit: int = 500) -> int:
        """Delete final tasks that ended before that moment (Unix ms of `now_ms`), with logs, indexes and keys.

        The number deleted. An idempotency key goes with its task, so keep tasks as long as callers may repeat.
        """
        ...

    def now_ms(self) -> int:
        """The store's clock."""
        ...


class SlotStore(Protocol):
    """Slots and nodes: who is there, what they do, what they are asked to do."""

    def register_slot(self, slot: SlotIdentity, *, lease_ms: int) -> None:
        """Raises SlotTaken while another incarnation of that name is alive."""
        ...

    def beat(
        self, slot: SlotIdentity, *, task_id: str | None, run_id: str | None, lease_ms: int, progress: str
    ) -> Beat:
        """Prolong the slot's lease and, with it, the run's; bring back what is asked of them."""
        ...

    def leave(self, slot: SlotIdentity) -> None:
        """The slot is gone for good. Harmless when it is another's by now."""
        ...

    def bury(self, slot_id: str, pid: int) -> bool:
        """The slot's process is dead and everything it started as well: its run counts as lost from now on.

        Only who has seen that may say so. False when the name is another process's by now.
        """
        ...

    def slots(self) -> list[Slot]: ...

    def register_node(self, node: NodeIdentity, *, lease_ms: int) -> NodeOrders:
        """Raises SlotTaken while another host's node of that name is alive, Refused when schema or protocol differ."""
        ...

    def beat_node(self, node: NodeIdentity, *, lease_ms: int, errored: Mapping[str, str]) -> NodeOrders | None:
        """The node's orders now; None when it was superseded. `errored`: slots it gave up, with the reason."""
        ...

    def leave_node(self, node: NodeIdentity) -> None: ...

    def order_node(
        self, node: str, *, mode: NodeMode | None = None, slots: int | None = None, deadline_ms: int | None = None
    ) -> NodeOrders:
        """Change what a node is asked to be; clamps slots to its bounds. Raises NotFound."""
        ...

    def order_slot(self, slot_id: str) -> None:
        """Ask one slot to leave after what it runs."""
        ...

    def nodes(self) -> list[Node]: ...

    def await_orders(self, name: str, *, seen: str, block_ms: int) -> str:
        """Wait until the node or slot of that name is rung after `seen`, or time is up; what was seen now.

        With `seen` "" it answers at once, so that nothing rung before the first wait is missed. A node is rung when
        its orders change, a slot when its run is cancelled or it is asked to leave.
        """
        ...


class EventStore(Protocol):
    """The pool's stream of events."""

    def head(self) -> str:
        """A cursor that stands behind everything that happened so far."""
        ...

    def read(self, after: str, *, block_ms: int | None = None, limit: int = 1000) -> tuple[list[TaskEvent], str]:
        """Events after the cursor and the new cursor; waits up to `block_ms` when there are none."""
        ...


class LogStore(Protocol):
    """Readable lines of runs, capped per task."""

    def append(self, task_id: str, entries: Sequence[LogEntry]) -> None: ...

    def read(self, task_id: str, *, after: str = "", block_ms: int | None = None, limit: int = 1000) -> list[LogEntry]:
        """Lines after the one with that id, oldest first; waits up to `block_ms` when there are none."""
        ...


class PoolStore(Protocol):
    """The pool as a whole."""

    def prepare(self, *, epoch: str | None) -> str:
        """Make or check the store: schema, eviction policy, epoch. The epoch now.

        Raises StoreReset when `epoch` is given and differs, Refused on a server that would evict keys.
        """
        ...

    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the server, one sentence each: say, that it would lose acknowledged writes."""
        ...

    def status(self) -> PoolStatus: ...

    def set_accepting(self, *, accepting: bool) -> None:
        """Whether new tasks are taken at all."""
        ...

    def set_limit(self, scope: str, limit_usd: float | None) -> None:
        """The ledger's limit of a scope: `pool`, or an id."""
        ...

    def release_budget(self, scope: str, *, limit: int = 500) -> list[Doorbell]:
        """Tasks parked for the budget that may try again."""
        ...

    def close_breaker(self, account: str = "default") -> bool:
        """Let an account's tasks run again, after somebody saw to what had closed it. False when nothing was closed."""
        ...


@dataclass(frozen=True)
class Store:
    """All of it, over one server and one pool name."""

    tasks: TaskStore
    house: Housekeeping
    slots: SlotStore
    events: EventStore
    logs: LogStore
    pool: PoolStore

    def close(self) -> None:
        """Give connections back. Harmless twice."""
