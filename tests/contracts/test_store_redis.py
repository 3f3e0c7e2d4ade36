"""What only a real server can do to a store: die, hang, forget its scripts, refuse."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import PoolError, Unreachable
from claude_pool.keys import QUEUE
from claude_pool.models.task import TaskRequest, TaskState
from claude_pool.store import client as module
from claude_pool.store import open_store
from claude_pool.store.client import new_fake_server, ping, shutdown_socket
from claude_pool.store.redis import RedisStore, fake_store
from claude_pool.testing.hands import Hand
from claude_pool.testing.redis_server import RedisServer

pytestmark = pytest.mark.redis
PATIENCE_S = 15


def test_scripts_that_the_server_forgot_are_sent_again(real_bench: Any) -> None:
    hand = Hand(real_bench.store)
    hand.submit()
    real_bench.raw.script_flush()
    hand.submit()
    real_bench.raw.script_flush()
    claim = hand.run(hand.submit())
    real_bench.raw.script_flush()
    assert hand.finish(claim, "completed") is not None


def test_the_steps_of_a_run_are_one_round_trip_each(real_bench: Any) -> None:
    hand = Hand(real_bench.store)
    first, second = hand.submit(), hand.submit()
    hand.finish(hand.run(first), "completed")
    steps: list[Callable[[], Any]] = [
        lambda: claims.append(hand.claim(second)),
        lambda: hand.start(claims[0]),
        lambda: hand.beat(claims[0]),
        lambda: hand.finish(claims[0], "completed"),
        hand.submit,
    ]
    hand.beat()
    claims: list[Any] = []
    for step in steps:
        real_bench.raw.config_resetstat()
        step()
        stats = real_bench.raw.info("commandstats")
        assert stats["cmdstat_evalsha"]["calls"] == 1
        assert not {"cmdstat_eval", "cmdstat_info", "cmdstat_ping", "cmdstat_script|load"} & stats.keys()


def test_status_asks_as_much_of_the_server_with_many_finished_tasks_as_with_none(real_bench: Any) -> None:
    hand = Hand(real_bench.store)

    def cost() -> int:
        real_bench.raw.config_resetstat()
        real_bench.store.pool.status()
        return sum(stats["calls"] for stats in real_bench.raw.info("commandstats").values())

    cost()
    before = cost()
    for _ in range(200):
        hand.finish(hand.run(hand.submit()), "completed")
    assert cost() == before


def test_what_was_acknowledged_survives_the_servers_death(
    private_redis: RedisServer, make_bench: Callable[..., Any]
) -> None:
    hand = Hand(make_bench(private_redis).store)
    ids = [hand.submit() for _ in range(20)]
    claim = hand.run(ids[0])
    private_redis.restart()
    assert hand.finish(claim, "completed", cost_usd=0.5) is not None
    private_redis.restart()
    assert [hand.state(task_id) for task_id in ids] == [TaskState.COMPLETED, *[TaskState.PENDING] * 19]
    assert hand.store.pool.status().spent_usd == 0.5


def test_a_dead_server_is_one_sentence_without_the_password(private_redis: RedisServer) -> None:
    config = PoolConfig(name="p")
    url = private_redis.url.replace("unix://", "unix://user:secret@") + "?db=0"
    store = open_store(url, config)
    private_redis.kill()
    with pytest.raises(Unreachable) as caught:
        store.tasks.submit([TaskRequest(prompt="x")], queue=QUEUE)
    assert str(private_redis.socket) in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    store.close()


def test_a_wrong_password_is_said_so(private_redis: RedisServer) -> None:
    private_redis.command("CONFIG", "SET", "requirepass", "right")
    store = open_store(private_redis.url + "?password=wrong", PoolConfig(name="p"))
    with pytest.raises(Unreachable, match="sign-in") as caught:
        store.pool.status()
    assert "wrong" not in str(caught.value)
    store.close()


def test_a_server_that_hangs_is_given_up(
    private_redis: RedisServer, make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    monkeypatch.setattr(module, "PATIENT_S", 0.2)
    store = make_bench(private_redis).store
    store.pool.status()
    os.kill(private_redis.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unreachable, match="does not answer"):
            store.pool.status()
        with pytest.raises(Unreachable, match="does not answer"):
            store.events.read("0-0", block_ms=60_000)
    finally:
        os.kill(private_redis.pid, signal.SIGCONT)
    assert store.pool.status().pending == 0


def test_who_waits_is_told_when_the_server_dies(private_redis: RedisServer, make_bench: Callable[..., Any]) -> None:
    bench = make_bench(private_redis)
    told: list[str] = []

    def wait() -> None:
        try:
            bench.store.events.read("0-0", block_ms=3_600_000)
        except Unreachable as error:
            told.append(error.code)

    waiter = threading.Thread(target=wait)
    waiter.start()
    while b"cmd=xread" not in private_redis.command("CLIENT", "LIST"):
        assert waiter.is_alive()
    private_redis.kill()
    waiter.join(PATIENCE_S)
    assert told == ["unreachable"]
    private_redis.start()


def test_a_forked_child_uses_connections_of_its_own(real_bench: Any) -> None:
    hand = Hand(real_bench.store)
    parent_made = hand.submit("parent")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            made = [hand.submit("child") for _ in range(50)]
            os.write(writing, "\n".join(made).encode())
        finally:
            os._exit(0)
    os.close(writing)
    mine = [hand.submit("parent") for _ in range(50)]
    with os.fdopen(reading) as pipe:
        theirs = pipe.read().split()
    os.waitpid(child, 0)
    prompts = {task_id: real_bench.store.tasks.detail(task_id).prompt for task_id in [parent_made, *mine, *theirs]}
    assert sorted(prompts.values()) == ["child"] * 50 + ["parent"] * 51


def test_pools_on_one_server_do_not_see_each_other(real_bench: Any) -> None:
    Hand(real_bench.store).submit()
    other = real_bench.another(name="other")
    assert other.pool.status().pending == 0
    assert other.slots.slots() == []


def test_two_processes_see_one_pool(real_bench: Any) -> None:
    other = real_bench.another()
    assert other.tasks.get(Hand(real_bench.store).submit()).state is TaskState.PENDING


def test_stores_in_this_process_share_a_server_if_asked() -> None:
    server, config = new_fake_server(), PoolConfig(name="p")
    first, second, alone = fake_store(config, server=server), fake_store(config, server=server), fake_store(config)
    task_id = Hand(first).submit()
    assert list(second.tasks.get_many([task_id])) == [task_id]
    assert alone.tasks.get_many([task_id]) == {}


def test_a_key_of_the_wrong_kind_is_an_error_and_not_a_crash(real_bench: Any) -> None:
    real_bench.raw.set(real_bench.key("events"), "not a stream")
    with pytest.raises(PoolError, match="WRONGTYPE"):
        Hand(real_bench.store).submit()


def test_ping_and_shutdown_of_a_socket(private_redis: RedisServer) -> None:
    ping(private_redis.url)
    assert shutdown_socket(private_redis.socket)
    private_redis.kill()
    with pytest.raises(Unreachable):
        ping(private_redis.url)
    assert not shutdown_socket(private_redis.socket)


def test_closing_twice_is_harmless(real_store: RedisStore) -> None:
    real_store.pool.status()
    real_store.close()
    real_store.close()
