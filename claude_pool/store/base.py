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

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from claude_pool.models.context import ContextStore
from claude_pool.models.events import LogEntry, TaskEvent
from claude_pool.models.graph import Graph, Inputs, Outcome, StepPlan, Whole
from claude_pool.models.parcel import ParcelStore
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
from claude_pool.store.answers import (
    Beat,
    Claim,
    Decided,
    Doorbell,
    Ended,
    Lost,
    Page,
    RefusedClaim,
    Submitted,
    TaskFilter,
    Tended,
)

__all__ = [
    "Beat",
    "Claim",
    "Decided",
    "Doorbell",
    "Ended",
    "EventStore",
    "GraphStore",
    "Housekeeping",
    "LogStore",
    "Lost",
    "Page",
    "PoolStore",
    "RefusedClaim",
    "ReviewStore",
    "SlotStore",
    "Store",
    "Submitted",
    "TaskFilter",
    "TaskStore",
    "Tended",
]


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

    def end(self, task_id: str, run_id: str, verdict: Verdict) -> Ended | None:
        """`finish`, with the doorbells of what became ready by it: a chain's next step, a fan-out's next branch."""
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

    def note_branch(self, task_ids: Sequence[str], note: str) -> None:
        """What became of the branch of these tasks: merged, discarded, expired. Those that are gone are left out."""
        ...


class ReviewStore(Protocol):
    """Tasks that wait for somebody's word. `run_id` is the run that was looked at; `who` tells callers apart.

    Of several decisions at once one wins; the others get Conflict, as does whoever looked at an older run, or speaks of
    a task that is not waiting for its review. Raises NotFound.
    """

    def waiting(self, *, limit: int) -> list[Task]:
        """The first `limit` that wait, the longest waiting first."""
        ...

    def hold(self, task_id: str, *, run_id: str, who: str, hold_ms: int) -> Task:
        """Keep others from deciding for a while: something has to be done before it is approved."""
        ...

    def let_go(self, task_id: str, *, who: str) -> None:
        """Give the decision back. Harmless when it was not held."""
        ...

    def approve(self, task_id: str, *, run_id: str, who: str, by: str) -> Decided:
        """pending_review → completed."""
        ...

    def reject(self, task_id: str, feedback: str, *, run_id: str, who: str, by: str) -> Decided:
        """pending_review → pending, in its own session; → failed when it was rejected as often as it may be."""
        ...


class GraphStore(Protocol):
    """Chains and fan-outs. Their steps and branches are tasks, and live by the same transitions."""

    def submit(self, graph: Graph) -> tuple[TaskState, builtins.list[Doorbell]]:
        """Store all of it, then let it begin: nothing runs before everything is there. What is to be rung.

        Raises PoolDrained, StoreFull; then nothing of it will ever run.
        """
        ...

    def get(self, whole_id: str) -> Whole:
        """With its children. Raises NotFound."""
        ...

    def get_many(self, whole_ids: Sequence[str], *, children: bool = False) -> dict[str, Whole]:
        """What is known of these, without those that do not exist."""
        ...

    def list(self, *, limit: int = 50, after: str | None = None) -> builtins.list[Whole]:
        """Chains and fan-outs that are no part of others, newest first. Raises NotFound for an unknown `after`."""
        ...

    def inputs(self, plan: StepPlan) -> Inputs:
        """What a step's prompt and condition are made of, as it is now."""
        ...

    def outcomes(self, task_ids: Sequence[str]) -> dict[str, Outcome]:
        """What these tasks have to say to others, without those that do not exist."""
        ...

    def cancel(
        self, whole_id: str, *, reason: str, after_step: bool = False
    ) -> tuple[TaskState, builtins.list[Doorbell]]:
        """End it: what runs is stopped, or, of a chain, comes to its end first; the rest is skipped. Raises NotFound.

        An accepted cancel wins: it never becomes completed afterwards. What is final stays as it is.
        """
        ...

    def resume(self, chain_id: str, graph: Graph, *, start: int) -> builtins.list[Doorbell]:
        """A chain that failed or was cancelled goes on with new steps in the place of those from `start` on.

        Raises Conflict in any other state.
        """
        ...

    def tend(self, *, limit: int = 100) -> Tended:
        """For the housekeeper: stop what is over its time, drop what never began, go on with what is wide."""
        ...


class Housekeeping(Protocol):
    """What the one housekeeper of a pool does, in bounded batches."""

    def lead(self, holder: str, *, ttl_ms: int) -> bool:
        """Take or keep the housekeeper's lease."""
        ...

    def reap(self, *, slack_ms: int, limit: int = 100) -> list[Lost]:
        """Runs whose lease ran out more than `slack_ms` ago: moved by their `on_lost` policy."""
        ...

    def due(self, *, limit: int = 500) -> list[Doorbell]:
        """Parked tasks whose time has come: moved to pending. Reviews whose time is over: failed."""
        ...

    def remind(self, *, pause_ms: int, limit: int = 500) -> list[str]:
        """Reviews without a word for so long: an event for each. Their tasks."""
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
        """The node's orders now; None when it was superseded. `errored`: slots it gave up. Raises StoreReset."""
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
        """Make or check the store: schema, eviction policy, epoch. The epoch now, and how much has happened in it.

        Raises StoreReset when `epoch` is given and is another one, or an older copy of it that knows less; Refused on
        a server that would evict keys.
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
    reviews: ReviewStore
    graph: GraphStore
    parcels: ParcelStore
    context: ContextStore

    def close(self) -> None:
        """Give connections back. Harmless twice."""
