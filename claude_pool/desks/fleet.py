"""The pool as a whole: status, nodes and slots, scaling, draining."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from claude_pool.desks.base import Desk
from claude_pool.errors import InvalidRequest, NotFound, Refused
from claude_pool.models.pool import DrainSummary, Node, NodeMode, PoolStatus, Slot
from claude_pool.models.task import TaskState

_LOOK_S: Final = 1.0
"""Nodes that leave without an event (killed, say) are noticed this often."""


class FleetDesk(Desk):
    """The verbs for nodes and slots."""

    def status(self) -> PoolStatus:
        """The pool in one screen; costs the same however many tasks are finished."""
        return self.store.pool.status()

    def nodes(self) -> list[Node]:
        """The nodes that are there, or were until a moment ago."""
        return self.store.slots.nodes()

    def slots(self) -> list[Slot]:
        """Every slot that is alive, with what it runs."""
        return self.store.slots.slots()

    def scale(self, target: int, *, node: str | None = None) -> int:
        """Set a node's number of slots, within its bounds; the number it will have.

        Idle slots go first, a busy one goes after its task. Without `node` there must be exactly one.
        """
        return self.store.slots.order_node(self._node(node).identity.node, slots=target).slots

    def scale_by(self, change: int, *, node: str | None = None) -> int:
        """The same, relative to what was asked for last."""
        found = self._node(node)
        return self.scale(max(0, found.orders.slots + change), node=found.identity.node)

    def _node(self, name: str | None) -> Node:
        alive = {node.identity.node: node for node in self.nodes() if node.alive}
        if not alive:
            raise Refused("No node is running.", hint="Start one with `claude-pool up` or `claude-pool worker`.")
        if name is None and len(alive) > 1:
            raise InvalidRequest(f"There are {len(alive)} nodes: {', '.join(sorted(alive))}.", hint="Name one.")
        if name is not None and name not in alive:
            raise NotFound(f"There is no node {name!r}.", hint=f"There are: {', '.join(sorted(alive))}.")
        return alive[name] if name is not None else next(iter(alive.values()))

    def drain(
        self, *, nodes: Collection[str] | None = None, deadline_s: float | None = None, now: bool = False
    ) -> DrainSummary:
        """Let nodes finish what they run and leave; `nodes` None means all of them.

        What still runs at the deadline (or at once, with `now`) is checkpointed: it goes back to pending, keeps its
        branch and session, and continues when slots are there again. Returns when the nodes are gone, or shortly after
        the deadline with `timed_out` set.
        """
        started = time.monotonic()
        limit_s = self.config.drain_s if deadline_s is None else deadline_s
        leaving = [node for node in self.nodes() if node.alive and (nodes is None or node.identity.node in nodes)]
        names = {node.identity.node for node in leaving}
        held = self._in_hand(names)
        costs = {task.id: task.cost_usd for task in self.store.tasks.get_many(sorted(held)).values()}
        mode = NodeMode.STOP if now else NodeMode.DRAIN
        deadline_ms = self.store.house.now_ms() + round(limit_s * 1000)
        for name in names:
            self.store.slots.order_node(name, mode=mode, deadline_ms=deadline_ms)
        held |= self._in_hand(names)  # what was claimed before the order was heard
        left = self._until_gone(names, (0 if now else limit_s) + self._leave_s())
        after = self.store.tasks.get_many(sorted(held))
        return DrainSummary(
            finished=tuple(task.id for task in after.values() if task.settled),
            checkpointed=tuple(task.id for task in after.values() if task.state is TaskState.PENDING),
            waiting=self._waiting(),
            slots_left=left,
            duration_ms=round((time.monotonic() - started) * 1000),
            cost_usd=sum(task.cost_usd - costs.get(task.id, 0.0) for task in after.values()),
            timed_out=left > 0,
        )

    def _in_hand(self, names: set[str]) -> set[str]:
        return {slot.task_id for slot in self.slots() if slot.node in names and slot.task_id}

    def _leave_s(self) -> float:
        """What stopping a run may take: every step of the stop ladder, and a heartbeat to hear of it."""
        return 4 * self.config.stop_grace_s + 2 * self.config.beat_s + 10

    def _waiting(self) -> int:
        status = self.status()
        return status.pending + status.parked + status.blocked

    def _until_gone(self, names: set[str], limit_s: float) -> int:
        """Wait until these nodes have left; how many of their slots are still there."""
        deadline = time.monotonic() + limit_s
        with self.hub.inbox(None) as inbox:
            while any(node.alive and node.identity.node in names for node in self.nodes()):
                if (left := deadline - time.monotonic()) <= 0:
                    break
                inbox.take(min(_LOOK_S, left))
        return sum(slot.node in names for slot in self.slots())

    def set_budget(self, limit_usd: float | None) -> None:
        """The most the pool may spend in all; None lifts the limit. Tasks parked for the budget try again."""
        self.store.pool.set_limit("pool", limit_usd)
        self._ring(self.store.pool.release_budget("pool"))
