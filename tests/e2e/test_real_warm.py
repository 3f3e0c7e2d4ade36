"""Warm slots with the real CLI against the simulated model: what one task did, the next one can't see."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.task import TaskResult, TaskState
from claude_pool.testing.node import TestNode, children_of, command_line, until
from claude_pool.testing.simulated import SimulatedApi, start

pytestmark = [pytest.mark.redis, pytest.mark.claude]

WAIT_S = 60


@pytest.fixture
def simulated_api(tmp_path: Path) -> Iterator[SimulatedApi]:
    """One that keeps what it was asked in `tmp_path`."""
    with start(dump=tmp_path) as api:
        yield api


@pytest.fixture
def make_node(
    pool_config: Callable[..., PoolConfig], claude_binary: Path, simulated_api: SimulatedApi
) -> Iterator[Callable[..., TestNode]]:
    with ExitStack() as stack:

        def make(warm: str, **settings: object) -> TestNode:
            env = {**simulated_api.environment, "CLAUDE_POOL_SIMULATED": "1", "SECRET_OF_ONE": "s3cret"}
            config = pool_config(**{"slots": 1, "claude": claude_binary, "lease_s": 4, "warm": warm, **settings})
            return stack.enter_context(TestNode(config, env=env))

        yield make


def waiting(node: TestNode) -> int:
    """Wait until one process waits; its pid."""

    def below() -> list[int]:
        return [pid for pid in children_of(node.guard_pid(0)) if b"stream-json" in command_line(pid)]

    until(lambda: len(below()) == 1, "a process that waits")
    return below()[0]


def run(node: TestNode, prompt: str, **options: Any) -> TaskResult:
    result = node.pool.run(prompt, wait_s=WAIT_S, **options)
    assert result.state is TaskState.COMPLETED, result
    return result


def bash(command: str) -> str:
    return f"[[tool:Bash {json.dumps({'command': command})}]][[echo-tool-result]]"


def test_a_spare_serves_one_task_in_a_session_that_can_be_continued(make_node: Callable[..., TestNode]) -> None:
    node = make_node("spare")
    run(node, "[[reply:one]]")
    first = waiting(node)
    result = run(node, "[[reply:two]]")
    assert (result.output, result.simulated, result.exit.code) == ("two", True, 0)
    assert waiting(node) != first
    again = run(node, "[[reply:three]]", session=f"continue:{result.task_id}")
    assert (again.output, again.session_id) == ("three", result.session_id)


def test_in_a_repository_a_spare_knows_the_branch_that_it_works_on(
    make_node: Callable[..., TestNode], scratch_repo: Path, tmp_path: Path
) -> None:
    node = make_node("spare", repo=scratch_repo)
    run(node, "[[reply:one]]")
    waiting(node)
    result = run(node, "[[reply:two]]")
    asked = max(tmp_path.glob("0*.json")).read_text()
    assert f"Current branch: pool/{result.task_id}" in asked


def test_two_slots_send_the_same_bytes_ahead_of_the_task_so_that_they_share_the_prompt_cache(
    make_node: Callable[..., TestNode], tmp_path: Path
) -> None:
    node = make_node("off", slots=2)
    ids = [node.pool.submit(f"[[sleep:1]][[reply:{number}]]", system_prompt="Be brief.").task_id for number in (1, 2)]
    node.pool.wait(ids, timeout_s=WAIT_S)
    assert len({node.pool.get(task_id).slot for task_id in ids}) == 2
    asked = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("0*.json"))]
    one, other = (body for body in asked if "[[reply:" in json.dumps(body["messages"]))
    assert one["messages"] != other["messages"]
    assert json.dumps([one["tools"], one["system"]]) == json.dumps([other["tools"], other["system"]])
    assert "persistent file-based memory" not in json.dumps(one)


def test_a_reused_process_takes_nothing_from_one_task_to_the_next(
    make_node: Callable[..., TestNode], tmp_path: Path
) -> None:
    node = make_node("reuse")
    options: dict[str, Any] = {"allowed_tools": ["Bash"]}
    first = run(node, "[[reply:the first knows PINEAPPLE]]", **options)
    process = waiting(node)
    second = run(node, f"{bash('cd /tmp && export LEAK=leaked')}[[reply:second PINEAPPLE]]", **options)
    third = run(node, f"{bash('pwd; echo [$LEAK]')}", **options)
    assert waiting(node) == process
    assert len({first.session_id, second.session_id, third.session_id}) == 3
    assert third.output.splitlines()[-1].strip().endswith("[]")
    assert str(third.workspace) in third.output
    asked = max(tmp_path.glob("0*.json")).read_text()
    assert "PINEAPPLE" not in asked
    assert third.cost_usd == pytest.approx(second.cost_usd, rel=0.5)


def test_a_rule_and_a_variable_of_one_task_are_not_the_next_ones(make_node: Callable[..., TestNode]) -> None:
    node = make_node("reuse")
    prompt = bash("printenv SECRET_OF_ONE; touch /tmp/nothing-of-the-kind-$$ && rm /tmp/nothing-of-the-kind-$$")
    options: dict[str, Any] = {"allowed_tools": ["Bash"], "env": ["SECRET_OF_ONE"]}
    assert "s3cret" in run(node, prompt, **options).output
    assert "s3cret" in run(node, prompt, **options).output
    plain = run(node, prompt)
    assert "s3cret" not in plain.output
    assert [denial.tool_name for denial in plain.denials] == ["Bash"]


def test_a_command_left_in_the_background_ends_with_its_task(make_node: Callable[..., TestNode]) -> None:
    node = make_node("reuse")
    options: dict[str, Any] = {"allowed_tools": ["Bash"]}
    run(node, "[[reply:one]]", **options)
    process = waiting(node)
    run(node, bash("setsid sleep 4321 >/dev/null 2>&1 & echo begun"), **options)
    until(lambda: command_line(process) == b"", "the process is renewed")
    left = [path for path in Path("/proc").glob("[0-9]*") if b"4321" in command_line(int(path.name))]
    assert left == []
    run(node, "[[reply:two]]", **options)
