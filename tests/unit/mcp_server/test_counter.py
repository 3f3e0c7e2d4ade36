"""The counter opens its pool when it is first wanted, and says what went wrong with it as often as it is asked."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from claude_pool import nodes
from claude_pool.config import PoolConfig
from claude_pool.errors import PoolError, Unreachable
from claude_pool.models.task import Submitter
from claude_pool.pool import Pool
from mcp_server.counter import Counter

pytestmark = pytest.mark.anyio
ADA = Submitter(name="ada", kind="mcp")


async def nothing(_running: int, _settled: int) -> None:
    pass


async def test_the_pool_is_opened_once_however_many_ask_first(
    config: PoolConfig, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[dict[str, Any]] = []

    def open_(_config: PoolConfig, **arguments: Any) -> Pool:
        opened.append(arguments)
        return pool

    monkeypatch.setattr(Pool, "open", open_)
    counter = Counter(config, submitter=ADA)
    assert opened == []
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(counter.ask, lambda found: found.status())
    assert opened == [{"submitter": ADA, "ring_later": True}]
    await counter.close()
    await counter.close()


async def test_a_pool_that_could_not_be_opened_is_tried_again(
    config: PoolConfig, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: Any, **_more: Any) -> Pool:
        raise Unreachable

    counter = Counter(config, submitter=ADA)
    monkeypatch.setattr(Pool, "open", fails)
    for _ in range(2):
        with pytest.raises(Unreachable):
            await counter.pool()
    monkeypatch.setattr(Pool, "open", lambda *_a, **_m: pool)
    assert await counter.pool() is pool
    await counter.close()


async def test_a_node_is_started_without_anybody_waiting_for_it_unless_one_is_there(
    config: PoolConfig, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go = threading.Event(), threading.Event()
    orders: list[dict[str, Any]] = []

    def ensure(_pool: Pool, **order: Any) -> None:
        orders.append(order)
        started.set()
        go.wait(20)
        raise PoolError("Node host-a ended while it started.")

    monkeypatch.setattr(Pool, "open", lambda *_a, **_m: pool)
    monkeypatch.setattr(nodes, "ensure_node", ensure)
    monkeypatch.setenv("CLAUDECODE", "1")
    counter = Counter(config, submitter=ADA, slots=3)
    await counter.pool()
    assert await anyio.to_thread.run_sync(started.wait, 20)
    assert "is starting with 3 slots" in counter.notes[0]
    go.set()
    with anyio.fail_after(20):
        while "did not start" not in "".join(counter.notes):
            await anyio.lowlevel.checkpoint()
    assert (orders[0]["slots"], orders[0]["idle_exit"], "CLAUDECODE" in orders[0]["env"]) == (3, True, False)
    await counter.close()


async def test_a_node_that_is_there_is_left_as_it_is(
    config: PoolConfig, pool: Pool, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "open", lambda *_a, **_m: pool)
    monkeypatch.setattr(nodes, "ensure_node", lambda *_a, **_m: pytest.fail("there is a node"))
    counter = Counter(config, submitter=ADA, slots=3)
    await anyio.to_thread.run_sync(counter._start_node, await counter.pool(), 3)
    assert counter.notes == []
    await counter.close()


async def test_a_wait_hears_what_happens_between_its_look_and_its_listening(counter: Counter, pool: Pool) -> None:
    task_id = pool.submit("x").task_id

    async def cancels(running: int, _settled: int) -> None:
        assert running == 1
        await anyio.to_thread.run_sync(pool.cancel, task_id)  # after the look, before the wait for news

    with anyio.fail_after(15):  # well below the twenty seconds after which it would look by itself
        waited = await counter.wait([task_id], timeout_s=60, tell=cancels)
    assert [task.id for task in waited.finished] == [task_id]
    assert not waited.timed_out


async def test_a_wait_that_is_cancelled_listens_no_longer(counter: Counter, pool: Pool) -> None:
    task_id = pool.submit("x").task_id
    with anyio.move_on_after(0.2):
        await counter.wait([task_id], timeout_s=60, tell=nothing)
    assert pool.hub._listeners == {}
