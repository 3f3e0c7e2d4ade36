"""Accounts that are closed, signals that come twice, and a Redis that hangs, drops everybody or forgets everything."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import StoreReset
from claude_pool.models.task import ErrorCode, ParkedFor, TaskState
from claude_pool.pool import Pool
from claude_pool.testing.node import TestNode, command_line, descendants_of, until
from claude_pool.testing.redis_server import RedisServer

pytestmark = pytest.mark.redis

WAIT_S = 40

MakeNode = Callable[..., TestNode]


@pytest.fixture
def make_node(pool_config: Callable[..., PoolConfig]) -> Iterator[MakeNode]:
    with ExitStack() as stack:

        def make(**settings: object) -> TestNode:
            return stack.enter_context(TestNode(pool_config(**{"slots": 1, **settings})))

        yield make


def running(node: TestNode, prompt: str) -> str:
    task_id = node.pool.submit(prompt).task_id
    until(lambda: any(entry.kind == "text" for entry in node.pool.stream(task_id, follow=False)), "first words")
    return task_id


def test_a_usage_limit_parks_every_task_of_the_account_with_the_time_it_ends(make_node: MakeNode) -> None:
    node = make_node(slots=2)
    first = node.pool.submit("[[fake:limit resets=3600 times=1]] [[fake:ok]]").task_id
    until(lambda: node.pool.get(first).state is TaskState.PARKED, "parked")
    task = node.pool.get(first)
    assert task.parked_for is ParkedFor.LIMIT
    assert task.error is not None
    assert task.error.code is ErrorCode.USAGE_LIMIT
    assert task.until_ms is not None
    second = node.pool.submit("[[fake:ok]]").task_id
    until(lambda: node.pool.get(second).state is TaskState.PARKED, "parked as well")
    assert node.pool.detail(second).runs == ()
    assert not task.waits_for_somebody


def test_after_a_closed_account_one_task_tries_first_and_the_rest_follow(make_node: MakeNode) -> None:
    node = make_node(slots=2)
    refused = node.pool.submit("[[fake:api status=401 times=1]] [[fake:ok]]").task_id
    until(lambda: node.pool.get(refused).state is TaskState.PARKED, "parked")
    others = [node.pool.submit("[[fake:ok]]").task_id for _ in range(3)]
    until(lambda: all(node.pool.get(task_id).state is TaskState.PARKED for task_id in others), "all parked")
    assert node.pool.wake(refused)
    every = [refused, *others]
    until(lambda: all(node.pool.get(task_id).state is TaskState.COMPLETED for task_id in every), "all completed")
    first = min((node.pool.detail(task_id).runs[-1].started_ms or 0, task_id) for task_id in every)
    assert first[1] == refused


def test_one_signal_drains_and_the_task_in_hand_is_finished(make_node: MakeNode) -> None:
    node = make_node()
    task_id = running(node, "[[fake:say text=x]] [[fake:slow s=1.5]] [[fake:ok]]")
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    task = node.pool.get(task_id)
    assert (task.state, task.counters.runs) == (TaskState.COMPLETED, 1)


def test_a_second_signal_checkpoints_at_once(make_node: MakeNode) -> None:
    node = make_node()
    task_id = running(node, "[[fake:say text=x]] [[fake:slow s=60 times=1]] [[fake:ok]]")
    node.signal(signal.SIGTERM)
    node.signal(signal.SIGINT)
    assert node.wait() == 0
    task = node.pool.get(task_id)
    assert (task.state, task.next_kind) == (TaskState.PENDING, "continuation")
    assert (task.counters.crashes, task.counters.attempts) == (0, 1)


def test_a_redis_that_drops_every_connection_again_and_again_costs_no_task(
    make_node: MakeNode, private_redis: RedisServer
) -> None:
    node = make_node(slots=2, redis_url=private_redis.url, lease_s=10)
    ids = [node.pool.submit("[[fake:slow s=0.2]] [[fake:ok]]").task_id for _ in range(20)]
    for _ in range(5):
        private_redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        done = node.pool.status().completed
        until(lambda done=done: node.pool.status().completed > done or done == len(ids), "progress")
    waited = node.pool.wait(ids, timeout_s=WAIT_S)
    assert {task.state for task in waited.finished} == {TaskState.COMPLETED}
    assert {task.counters.attempts for task in waited.finished} == {1}


def test_a_redis_that_hangs_for_less_than_the_lease_costs_nothing(
    make_node: MakeNode, private_redis: RedisServer
) -> None:
    node = make_node(redis_url=private_redis.url, lease_s=20)
    task_id = running(node, "[[fake:say text=x]] [[fake:slow s=1]] [[fake:ok]]")
    os.kill(private_redis.pid, signal.SIGSTOP)
    try:
        journal = node.config.node_dir / "journal"
        until(lambda: any(journal.glob("*.json")), "the result waits")
    finally:
        os.kill(private_redis.pid, signal.SIGCONT)
    task = node.pool.wait([task_id], timeout_s=WAIT_S).finished[0]
    assert (task.state, task.counters.runs) == (TaskState.COMPLETED, 1)


def test_a_redis_that_is_away_for_longer_than_the_lease_ends_the_run_and_its_task_goes_on(
    make_node: MakeNode, private_redis: RedisServer, fake_ledger: object
) -> None:
    node = make_node(redis_url=private_redis.url, lease_s=2)
    task_id = running(node, "[[fake:say text=x]] [[fake:slow s=60 times=1]] [[fake:ok]]")
    tree = descendants_of(node.guard_pid(0))
    assert tree
    private_redis.kill()
    until(lambda: not any(command_line(pid) for pid in tree), "the guard has ended the run")
    private_redis.start()
    task = node.pool.wait([task_id], timeout_s=WAIT_S).finished[0]
    assert task.state is TaskState.COMPLETED
    assert task.counters.attempts == 1
    assert fake_ledger.read().overlaps() == []  # type: ignore[attr-defined]


def test_a_store_that_is_emptied_under_a_running_node_is_noticed_and_nothing_new_is_claimed(
    make_node: MakeNode, private_redis: RedisServer
) -> None:
    node = make_node(redis_url=private_redis.url)
    assert node.pool.run("[[fake:ok]]", wait_s=WAIT_S).state is TaskState.COMPLETED
    private_redis.flush()
    until(lambda: StoreReset().message in node.log(), "the supervisor is told, and stays")
    with Pool.open(node.config) as pool:
        task_id = pool.submit("[[fake:ok]]").task_id
        until(lambda: "store_reset" in node.log(), "the node says so")
        assert pool.get(task_id).state is TaskState.PENDING
