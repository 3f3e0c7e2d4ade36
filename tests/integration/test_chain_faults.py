"""Chains and fan-outs on a node that is hurt: no step is lost, none runs twice, every join comes once."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.chain import ChainResult
from claude_pool.models.task import TaskState
from claude_pool.testing.fake_script import directive
from claude_pool.testing.node import TestNode, until
from claude_pool.testing.redis_server import RedisServer

pytestmark = pytest.mark.redis

WAIT_S = 40


def ok(text: str) -> str:
    return directive("ok", text=text)


def step(name: str, prompt: str) -> dict[str, Any]:
    return {"name": name, "prompt": prompt}


def states(result: ChainResult) -> list[str]:
    return [one.state for one in result.steps]


def test_a_slot_killed_between_two_steps_costs_no_step_and_none_runs_twice(
    pool_config: Callable[..., PoolConfig], fake_ledger: Any
) -> None:
    with TestNode(pool_config(slots=1)) as node:
        chain = node.pool.submit_chain([step(f"s{number}", ok(str(number))) for number in range(30)], max_attempts=3)
        killed = 0
        for number in (3, 11, 22):
            until(lambda at=number: node.pool.store.graph.get(chain.chain_id).ended > at, f"step {number} ended")
            os.kill(node.slot_pid(0), signal.SIGKILL)
            killed += 1
            node.await_slots(1)
        node.pool.wait([chain.chain_id], timeout_s=90)
        result = node.pool.chain_result(chain.chain_id)
        assert result.state is TaskState.COMPLETED, result
        assert states(result) == ["completed"] * 30
    runs = fake_ledger.read()
    assert killed == 3
    assert runs.overlaps() == []
    completed = [one for one in runs.executions if one.outcome == "success"]
    assert len({one.task for one in completed}) == 30
    assert len(completed) - 30 <= killed  # a run that had ended and was killed before it could say so


def test_a_lost_link_is_rung_again_by_the_housekeeper(pool_config: Callable[..., PoolConfig]) -> None:
    with TestNode(pool_config(slots=1)) as node:
        busy = node.pool.submit("[[fake:slow s=1]]").task_id
        until(lambda: node.pool.get(busy).state is TaskState.RUNNING, "running")
        chain = node.pool.submit_chain([step("a", ok("x")), step("b", ok("y"))])
        raw = node.pool.store.client._quick
        name = next(key for key in raw.keys(f"{node.config.name}:mq:tasks*") if raw.type(key) == "list")
        raw.delete(name)
        node.pool.wait([chain.chain_id], timeout_s=WAIT_S)
        assert node.pool.chain_result(chain.chain_id).state is TaskState.COMPLETED


def test_a_redis_restart_in_the_middle_of_a_join_loses_no_branch_and_gathers_once(
    pool_config: Callable[..., PoolConfig], private_redis: RedisServer, fake_ledger: Any
) -> None:
    with TestNode(pool_config(slots=2, redis_url=private_redis.url)) as node:
        fan = node.pool.fan_out(
            [f"[[fake:slow s=0.2]]{ok(str(number))}" for number in range(12)], gather="All: {branches}"
        )
        for at in (3, 8):
            until(lambda at=at: node.pool.store.graph.get(fan.fan_out_id).ended > at, f"{at} branches ended")
            private_redis.restart()
        until(lambda: node.pool.get(fan.fan_out_id).state.final, "the end", within_s=60)
        result = node.pool.fan_out_result(fan.fan_out_id)
    assert result.state is TaskState.COMPLETED, result
    assert [one.output for one in result.results] == [str(number) for number in range(12)]
    runs = fake_ledger.read()
    assert runs.overlaps() == []
    assert len(runs.of(fan.gather_id or "")) == 1
