"""The verbs for nodes and slots."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from claude_pool.desks import fleet
from claude_pool.errors import InvalidRequest, NotFound, Refused
from claude_pool.models.pool import NodeIdentity, NodeMode
from claude_pool.models.task import TaskState
from claude_pool.pool import Pool
from claude_pool.store import Store
from claude_pool.testing.hands import Hand

LEASE_MS = 60_000
PATIENCE_S = 20


def register(store: Store, name: str = "n1", slots: int = 2) -> NodeIdentity:
    node = NodeIdentity(
        node=name, incarnation=f"i-{name}", host=name, pid=1, version="0", protocol=1, slots=slots, max_slots=4
    )
    store.slots.register_node(node, lease_ms=LEASE_MS)
    return node


def test_without_a_node_there_is_nothing_to_scale(pool: Pool) -> None:
    with pytest.raises(Refused, match="No node is running") as caught:
        pool.scale(3)
    assert "claude-pool up" in caught.value.hint


def test_the_only_node_needs_no_name_and_keeps_its_bounds(pool: Pool, store: Store) -> None:
    register(store)
    assert pool.scale(3) == 3
    assert pool.scale(99) == 4
    assert [node.orders.slots for node in pool.nodes()] == [4]


def test_steps_count_from_what_was_asked_for_last(pool: Pool, store: Store) -> None:
    register(store)
    assert pool.scale_by(+1) == 3
    assert pool.scale_by(-2) == 1
    assert pool.scale_by(-5) == 0


def test_with_several_nodes_one_has_to_be_named(pool: Pool, store: Store) -> None:
    register(store, "a")
    register(store, "b")
    with pytest.raises(InvalidRequest, match="There are 2 nodes: a, b"):
        pool.scale(1)
    assert pool.scale(1, node="b") == 1
    assert {node.identity.node: node.orders.slots for node in pool.nodes()} == {"a": 2, "b": 1}
    with pytest.raises(NotFound, match="no node 'c'") as caught:
        pool.scale(1, node="c")
    assert "a, b" in caught.value.hint


def test_draining_an_empty_pool_is_done_at_once(pool: Pool) -> None:
    summary = pool.drain(deadline_s=0.01)
    assert (summary.slots_left, summary.timed_out, summary.finished) == (0, False, ())


def leaves(store: Store, node: NodeIdentity, hand: Hand, *, after: Any = None) -> threading.Thread:
    """A node that leaves as soon as it is told to, after it has done that."""

    def look() -> None:
        seen = ""
        while True:
            orders = store.slots.beat_node(node, lease_ms=LEASE_MS, errored={})
            if orders is None or orders.mode is not NodeMode.RUN:
                break
            seen = store.slots.await_orders(node.node, seen=seen, block_ms=100)
        if after is not None:
            after()
        store.slots.leave(hand.identity)
        store.slots.leave_node(node)

    thread = threading.Thread(target=look)
    thread.start()
    return thread


def test_a_drain_tells_what_finished_meanwhile_and_what_it_cost(pool: Pool, store: Store, hand: Hand) -> None:
    node = register(store)
    task_id, waiting = pool.submit("Hi.").task_id, pool.submit("Later.").task_id
    claim = hand.run(task_id)
    thread = leaves(store, node, hand, after=lambda: hand.finish(claim, "completed", cost_usd=0.25))
    summary = pool.drain(deadline_s=PATIENCE_S)
    thread.join()
    assert (summary.finished, summary.checkpointed, summary.waiting) == ((task_id,), (), 1)
    assert (summary.cost_usd, summary.slots_left, summary.timed_out) == (0.25, 0, False)
    assert pool.get(waiting).state is TaskState.PENDING


def test_what_is_stopped_at_the_deadline_is_told_as_checkpointed(pool: Pool, store: Store, hand: Hand) -> None:
    node = register(store)
    task_id = pool.submit("Hi.").task_id
    claim = hand.run(task_id)
    thread = leaves(store, node, hand, after=lambda: hand.finish(claim, "pending", session_id="s"))
    summary = pool.drain(now=True)
    thread.join()
    assert (summary.checkpointed, summary.finished) == ((task_id,), ())


def test_a_node_that_does_not_leave_in_time_is_told(
    pool: Pool, store: Store, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet.FleetDesk, "_leave_s", lambda _self: 0.0)
    register(store)
    summary = pool.drain(deadline_s=0.0)
    assert (summary.slots_left, summary.timed_out) == (1, True)
    assert [node.orders.mode for node in pool.nodes()] == [NodeMode.DRAIN]


def test_only_the_nodes_that_are_named_are_drained(pool: Pool, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet.FleetDesk, "_leave_s", lambda _self: 0.0)
    register(store, "a")
    register(store, "b")
    pool.drain(nodes=["b"], now=True)
    assert {node.identity.node: node.orders.mode for node in pool.nodes()} == {"a": NodeMode.RUN, "b": NodeMode.STOP}


def test_a_raised_budget_rings_for_those_who_waited_for_money(pool: Pool, hand: Hand, bells: Any) -> None:
    pool.set_budget(0.0)
    task_id = pool.submit("Hi.").task_id
    hand.try_claim(task_id)
    assert pool.get(task_id).parked_for == "budget"
    bells.rung.clear()
    pool.set_budget(10.0)
    assert [bell.task_id for bell in bells.rung] == [task_id]
    assert pool.get(task_id).state is TaskState.PENDING
    assert pool.status().budget_usd == 10.0
    pool.set_budget(None)
    assert pool.status().budget_usd is None
