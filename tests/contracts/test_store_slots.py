from __future__ import annotations

import threading
from typing import Any

import pytest

from claude_pool.errors import NotFound, Refused, SlotTaken
from claude_pool.ids import new_run_id
from claude_pool.keys import PROTOCOL
from claude_pool.models.pool import NodeIdentity, NodeMode, NodeOrders, SlotState
from claude_pool.store.redis import RedisStore
from claude_pool.testing.hands import LEASE_MS, Hand, slot_identity

PATIENCE_S = 10


def node_identity(node: str = "n1", **changes: Any) -> NodeIdentity:
    values = {"incarnation": new_run_id(), "host": "h", "pid": 1, "version": "1", "protocol": PROTOCOL, "slots": 2}
    return NodeIdentity(node=node, **{**values, **changes})


# -- slots


def test_a_registered_slot_is_listed_and_idle(store: RedisStore, hand: Hand) -> None:
    (slot,) = store.slots.slots()
    assert (slot.slot_id, slot.node, slot.number, slot.state) == ("slot-0@n1", "n1", 0, SlotState.IDLE)


def test_slots_are_listed_by_node_and_number(store: RedisStore) -> None:
    for number, node in ((10, "a"), (2, "a"), (0, "b")):
        store.slots.register_slot(slot_identity(number, node), lease_ms=LEASE_MS)
    assert [slot.slot_id for slot in store.slots.slots()] == ["slot-2@a", "slot-10@a", "slot-0@b"]


def test_a_slot_says_what_it_does_and_how_much_it_did(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit())
    (slot,) = store.slots.slots()
    assert (slot.state, slot.task_id, slot.run_id) == (SlotState.BUSY, claim.task.id, claim.run_id)
    hand.finish(claim, "completed")
    (slot,) = store.slots.slots()
    assert (slot.state, slot.task_id, slot.tasks_done) == (SlotState.IDLE, None, 1)


def test_a_live_slots_name_is_taken(store: RedisStore, hand: Hand) -> None:
    with pytest.raises(SlotTaken, match="slot-0@n1"):
        store.slots.register_slot(slot_identity(), lease_ms=LEASE_MS)
    store.slots.register_slot(hand.identity, lease_ms=LEASE_MS)


def test_a_dead_slots_name_is_free_and_the_old_one_is_fenced(bench: Any, hand: Hand) -> None:
    store = bench.store
    claim = hand.run(hand.submit())
    bench.raw.zadd(bench.key("slots"), {hand.identity.slot_id: 1})
    assert store.slots.slots() == []
    store.slots.register_slot(slot_identity(), lease_ms=LEASE_MS)
    assert hand.beat().fenced
    assert hand.beat(claim).fenced
    assert store.slots.slots()[0].state is SlotState.IDLE
    store.slots.leave(hand.identity)
    assert len(store.slots.slots()) == 1


def test_a_slot_that_only_paused_goes_on(bench: Any, hand: Hand) -> None:
    bench.raw.zadd(bench.key("slots"), {hand.identity.slot_id: 1})
    assert not hand.beat().fenced
    assert len(bench.store.slots.slots()) == 1


def test_a_slot_that_left_is_gone(store: RedisStore, hand: Hand) -> None:
    store.slots.leave(hand.identity)
    store.slots.leave(hand.identity)
    assert store.slots.slots() == []
    assert hand.beat().fenced


def test_the_run_of_a_buried_slot_is_lost_at_once_and_only_its_own(store: RedisStore, hand: Hand) -> None:
    other = Hand(store, 1)
    claim, alive = hand.run(hand.submit()), other.run(other.submit())
    assert not store.slots.bury(hand.identity.slot_id, pid=hand.identity.pid + 1)
    assert store.house.reap(slack_ms=0) == []
    assert store.slots.bury(hand.identity.slot_id, pid=hand.identity.pid)
    assert [lost.run_id for lost in store.house.reap(slack_ms=60_000)] == [claim.run_id]
    assert not other.beat(alive).fenced
    assert [slot.slot_id for slot in store.slots.slots()] == [other.identity.slot_id]
    assert store.pool.status().busy == 1


def test_a_beat_brings_progress_in_one_clean_line(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit())
    hand.beat(claim, progress="reading\n\x1b[31m files")
    assert store.tasks.get(claim.task.id).progress == "reading [31m files"


def test_a_beat_for_a_run_that_is_over_is_fenced(hand: Hand) -> None:
    claim = hand.run(hand.submit())
    hand.finish(claim, "completed")
    assert hand.beat(claim).fenced
    assert not hand.beat().fenced


def test_a_slot_can_be_asked_to_leave(store: RedisStore, hand: Hand) -> None:
    seen = store.slots.await_orders(hand.identity.slot_id, seen="", block_ms=0)
    store.slots.order_slot(hand.identity.slot_id)
    assert store.slots.await_orders(hand.identity.slot_id, seen=seen, block_ms=0) != seen
    assert hand.beat().leaving
    assert store.slots.slots()[0].state is SlotState.LEAVING


def test_nobody_can_be_asked_who_is_not_there(store: RedisStore) -> None:
    with pytest.raises(NotFound, match="slot-9@n1"):
        store.slots.order_slot("slot-9@n1")
    with pytest.raises(NotFound, match="'nowhere'"):
        store.slots.order_node("nowhere", slots=1)


# -- nodes


def test_a_node_starts_with_its_own_wishes(store: RedisStore) -> None:
    identity = node_identity(slots=3)
    assert store.slots.register_node(identity, lease_ms=LEASE_MS) == NodeOrders(slots=3)
    (node,) = store.slots.nodes()
    assert (node.identity, node.alive) == (identity, True)
    assert store.pool.status().nodes == 1


def test_orders_are_kept_within_the_nodes_bounds(store: RedisStore) -> None:
    identity = node_identity(min_slots=1, max_slots=4)
    store.slots.register_node(identity, lease_ms=LEASE_MS)
    assert [store.slots.order_node("n1", slots=wanted).slots for wanted in (0, 3, 99)] == [1, 3, 4]
    assert store.slots.beat_node(identity, lease_ms=LEASE_MS, errored={}) == NodeOrders(slots=4)


def test_a_drain_has_a_deadline_and_a_new_mode_forgets_it(store: RedisStore) -> None:
    store.slots.register_node(node_identity(), lease_ms=LEASE_MS)
    drain = store.slots.order_node("n1", mode=NodeMode.DRAIN, deadline_ms=123)
    assert (drain.mode, drain.deadline_ms) == (NodeMode.DRAIN, 123)
    assert store.slots.order_node("n1", slots=1) == drain.evolve(slots=1)
    assert store.slots.order_node("n1", mode=NodeMode.RUN).deadline_ms is None


def test_a_live_nodes_name_is_taken_and_a_superseded_one_is_told(bench: Any) -> None:
    slots = bench.store.slots
    old, new = node_identity(), node_identity(host="another")
    slots.register_node(old, lease_ms=LEASE_MS)
    slots.order_node("n1", mode=NodeMode.STOP)
    with pytest.raises(SlotTaken, match="n1"):
        slots.register_node(new, lease_ms=LEASE_MS)
    bench.raw.zadd(bench.key("nodes"), {"n1": 1})
    assert [node.alive for node in slots.nodes()] == [False]
    assert slots.register_node(new, lease_ms=LEASE_MS).mode is NodeMode.RUN
    assert slots.beat_node(old, lease_ms=LEASE_MS, errored={}) is None
    slots.leave_node(old)
    assert [node.identity for node in slots.nodes()] == [new]
    slots.leave_node(new)
    assert slots.nodes() == []


def test_a_nodes_new_process_on_the_same_host_succeeds_the_old_one(store: RedisStore) -> None:
    old, new, elsewhere = node_identity(), node_identity(), node_identity(host="another")
    store.slots.register_node(old, lease_ms=LEASE_MS)
    with pytest.raises(SlotTaken):
        store.slots.register_node(elsewhere, lease_ms=LEASE_MS)
    store.slots.register_node(new, lease_ms=LEASE_MS)
    assert store.slots.beat_node(old, lease_ms=LEASE_MS, errored={}) is None


def test_another_protocol_or_schema_is_refused(bench: Any) -> None:
    with pytest.raises(Refused, match="protocol 99"):
        bench.store.slots.register_node(node_identity(protocol=99), lease_ms=LEASE_MS)
    bench.raw.hset(bench.key("meta"), "schema", 99)
    with pytest.raises(Refused, match="version 99"):
        bench.store.slots.register_node(node_identity(), lease_ms=LEASE_MS)


def test_slots_that_a_node_gave_up_are_listed_with_the_reason(store: RedisStore, hand: Hand) -> None:
    identity = node_identity()
    store.slots.register_node(identity, lease_ms=LEASE_MS)
    store.slots.beat_node(identity, lease_ms=LEASE_MS, errored={"slot-1@n1": "exits at once"})
    found = {slot.slot_id: (slot.state, slot.reason, slot.number) for slot in store.slots.slots()}
    assert found["slot-1@n1"] == (SlotState.ERRORED, "exits at once", 1)
    store.slots.beat_node(identity, lease_ms=LEASE_MS, errored={})
    assert [slot.slot_id for slot in store.slots.slots()] == ["slot-0@n1"]


def test_a_simulated_node_makes_the_pool_say_so(store: RedisStore) -> None:
    store.slots.register_node(node_identity("real"), lease_ms=LEASE_MS)
    assert not store.pool.status().simulated
    store.slots.register_node(node_identity("pretend", simulated=True), lease_ms=LEASE_MS)
    assert store.pool.status().simulated


# -- bells


def test_the_first_look_answers_at_once(store: RedisStore) -> None:
    seen = store.slots.await_orders("n1", seen="", block_ms=3_600_000)
    assert store.slots.await_orders("n1", seen=seen, block_ms=1) == seen


@pytest.mark.redis
def test_an_order_wakes_who_waits_for_it(real_store: RedisStore) -> None:
    slots = real_store.slots
    slots.register_node(node_identity(), lease_ms=LEASE_MS)
    before = slots.await_orders("n1", seen="", block_ms=0)
    woken: list[str] = []
    waiter = threading.Thread(target=lambda: woken.append(slots.await_orders("n1", seen=before, block_ms=60_000)))
    waiter.start()
    slots.order_node("n1", slots=1)
    waiter.join(PATIENCE_S)
    assert not waiter.is_alive()
    assert woken != [before]
