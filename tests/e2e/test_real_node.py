"""A real node with the real CLI against the simulated model: the whole road, and the ways to leave it."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.task import ErrorCode, TaskState
from claude_pool.testing.node import TestNode, command_line, descendants_of, until
from claude_pool.testing.simulated import SimulatedApi

pytestmark = [pytest.mark.redis, pytest.mark.claude]

WAIT_S = 60


@pytest.fixture
def node(
    pool_config: Callable[..., PoolConfig], claude_binary: Path, simulated_api: SimulatedApi
) -> Iterator[TestNode]:
    env = {**simulated_api.environment, "CLAUDE_POOL_SIMULATED": "1"}
    with TestNode(pool_config(slots=2, claude=claude_binary, lease_s=4, stop_grace_s=3), env=env) as node:
        yield node


def tool(name: str, **arguments: object) -> str:
    return f"[[tool:{name} {json.dumps(arguments)}]]"


def bash(command: str) -> str:
    return tool("Bash", command=command)


def in_bash(node: TestNode, task_id: str) -> list[int]:
    """Wait until the task's tool runs; everything below the guards then."""
    until(lambda: any(entry.kind == "tool" for entry in node.pool.stream(task_id, follow=False)), "a tool call")

    def below() -> list[int]:
        return [pid for slot in node.pool.slots() for pid in descendants_of(slot.pid)]

    until(lambda: any(b"sleep" in command_line(pid) for pid in below()), "its children")
    return [pid for pid in below() if b"guard.py" not in command_line(pid)]


def test_two_tasks_of_the_real_cli_run_in_parallel_on_branches_of_their_own(node: TestNode, scratch_repo: Path) -> None:
    ids = [
        node.pool.submit(
            f"{tool('Write', file_path=f'{name}.txt', content=name)}[[sleep:1]][[reply:wrote {name}]]",
            repo=str(scratch_repo),
        ).task_id
        for name in ("one", "two")
    ]
    until(lambda: node.pool.status().busy == 2, "both slots busy")
    node.pool.wait(ids, timeout_s=WAIT_S)
    results = [node.pool.result(task_id) for task_id in ids]
    assert [result.output for result in results] == ["wrote one", "wrote two"]
    assert [result.branch and result.branch.paths for result in results] == [("one.txt",), ("two.txt",)]
    assert all(result.simulated and result.cost_usd > 0 for result in results)
    assert len({result.session_id for result in results}) == 2


def test_a_slot_killed_in_a_tool_call_is_resumed_in_the_same_session_and_nothing_of_it_lives_on(node: TestNode) -> None:
    prompt = f"{bash('echo once >> log; test $(wc -l < log) -gt 1 || sleep 300')}[[reply:finished]]"
    task_id = node.pool.submit(prompt, allowed_tools=("Bash",)).task_id
    tree = in_bash(node, task_id)
    session = node.pool.get(task_id).session_id
    number = int((node.pool.get(task_id).slot or "").removeprefix("slot-").partition("@")[0])
    os.kill(node.slot_pid(number), signal.SIGKILL)
    until(lambda: not [pid for pid in tree if command_line(pid)], "the tree is gone")
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    task = waited.finished[0]
    assert task.state is TaskState.COMPLETED, task
    assert task.session_id == session
    assert (task.counters.attempts, task.counters.continuations) == (1, 1)


def test_a_stopped_slot_loses_its_run_before_another_takes_over(node: TestNode) -> None:
    prompt = f"{bash('echo once >> log; test $(wc -l < log) -gt 1 || sleep 300')}[[reply:finished]]"
    task_id = node.pool.submit(prompt, allowed_tools=("Bash",)).task_id
    tree = in_bash(node, task_id)
    number = int((node.pool.get(task_id).slot or "").removeprefix("slot-").partition("@")[0])
    slot = node.slot_pid(number)
    tree = [pid for pid in tree if pid in descendants_of(slot)]
    os.kill(slot, signal.SIGSTOP)
    try:
        until(lambda: not [pid for pid in tree if command_line(pid)], "the guard has ended the run")
        until(lambda: node.pool.get(task_id).counters.runs == 2, "another run")
    finally:
        os.kill(slot, signal.SIGCONT)
    assert node.pool.wait([task_id], timeout_s=WAIT_S).finished[0].state.final


def test_cancel_ends_a_tree_of_detached_children_and_keeps_the_cost(node: TestNode) -> None:
    prompt = bash("setsid sleep 300 & nohup setsid sleep 301 & (trap '' TERM; sleep 302) & sleep 303") + "[[reply:no]]"
    task_id = node.pool.submit(prompt, allowed_tools=("Bash",)).task_id
    tree = in_bash(node, task_id)
    node.pool.cancel(task_id)
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is TaskState.CANCELLED
    assert [command_line(pid) for pid in tree if b"sleep" in command_line(pid)] == []
    assert node.pool.result(task_id).cost_usd > 0


def test_a_drain_checkpoints_a_long_run_and_the_next_node_finishes_it(node: TestNode) -> None:
    prompt = f"{bash('echo once >> log; test $(wc -l < log) -gt 1 || sleep 300')}[[reply:finished]]"
    task_id = node.pool.submit(prompt, allowed_tools=("Bash",)).task_id
    in_bash(node, task_id)
    summary = node.pool.drain(deadline_s=0.5)
    assert summary.checkpointed == (task_id,)
    node.wait()
    node.start()
    task = node.pool.wait([task_id], timeout_s=WAIT_S).finished[0]
    assert task.state is TaskState.COMPLETED
    assert task.counters.attempts == 1


def test_an_unknown_model_and_a_wrong_key_say_so_in_seconds(node: TestNode, simulated_api: SimulatedApi) -> None:
    unknown = node.pool.run("[[reply:x]]", model="claude-no-such-model", wait_s=WAIT_S)
    assert unknown.error is not None
    assert unknown.error.code is ErrorCode.MODEL_NOT_FOUND
    simulated_api.set_rules({"status": 401})
    wrong = node.pool.run("[[reply:x]]", wait_s=WAIT_S)
    assert wrong.error is not None
    assert wrong.error.code is ErrorCode.AUTH
    assert wrong.state is TaskState.PARKED


@pytest.mark.parametrize(
    "prompt", ["--help", "/clear", "/cost", "@README.md what is in it", "-p hello", "!ls", "# note"]
)
def test_what_looks_like_a_flag_a_command_or_a_file_reaches_the_model_as_it_is(
    node: TestNode, simulated_api: SimulatedApi, prompt: str
) -> None:
    result = node.pool.run(f"{prompt} [[reply:seen]]", wait_s=WAIT_S)
    assert result.output == "seen"
    assert any(prompt in str(message.get("prompt", message)) for message in simulated_api.messages)
