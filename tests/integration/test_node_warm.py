"""Warm slots on a real node, with the fake claude: what is shared, what is not, and that nothing is left of it."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.models.task import TaskResult, TaskState
from claude_pool.testing.node import TestNode, children_of, command_line, until

pytestmark = pytest.mark.redis

WAIT_S = 40

MakeNode = Callable[..., TestNode]


@pytest.fixture
def make_node(pool_config: Callable[..., PoolConfig]) -> Iterator[MakeNode]:
    with ExitStack() as stack:

        def make(**settings: object) -> TestNode:
            config = pool_config(**{"slots": 1, "warm": "spare", **settings})
            return stack.enter_context(TestNode(config))

        yield make


def waiting(node: TestNode, number: int = 0) -> list[int]:
    """The processes below a slot's guard, by pid."""
    with suppress(StopIteration):  # the slot or its guard is being replaced
        return [pid for pid in children_of(node.guard_pid(number)) if b"fake-claude-boot" in command_line(pid)]
    return []


def spare(node: TestNode, number: int = 0) -> int:
    """Wait until one process waits; its pid."""
    until(lambda: len(waiting(node, number)) == 1, "a process that waits")
    return waiting(node, number)[0]


def run(node: TestNode, prompt: str = "[[fake:ok text=done]]", **options: Any) -> TaskResult:
    result = node.pool.run(prompt, wait_s=WAIT_S, **options)
    assert result.state is TaskState.COMPLETED, result
    return result


def gone(pid: int) -> None:
    until(lambda: command_line(pid) == b"", f"{pid} is gone")


# -- spare


def test_a_task_of_the_profile_starts_in_the_process_that_waited_and_no_other_task_does(
    make_node: MakeNode, fake_ledger: Any
) -> None:
    node = make_node()
    first = run(node)
    pids: list[int] = []
    results: list[TaskResult] = []
    for _ in range(3):
        pids.append(spare(node))
        results.append(run(node))
    assert len(set(pids)) == 3
    entries = fake_ledger.path.read_text().split("\n")
    ran = {line.split()[1]: int(line.split()[3]) for line in entries if line.startswith("S ")}
    assert [ran[result.task_id] for result in results] == pids
    assert len({first.session_id, *(result.session_id for result in results)}) == 4
    assert fake_ledger.read().overlaps() == []


def test_the_run_and_its_money_are_told_under_the_tasks_own_names(make_node: MakeNode, fake_ledger: Any) -> None:
    node = make_node()
    run(node)
    spare(node)
    result = run(node, "[[fake:ok text=paid cost=0.25]]")
    assert result.cost_usd == pytest.approx(0.25)
    assert node.pool.detail(result.task_id).runs[-1].run_id == result.run_id
    assert f"S {result.task_id} {result.run_id} " in fake_ledger.path.read_text()


def test_another_profile_gets_a_process_of_its_own_and_the_one_that_waited_is_thrown_away(make_node: MakeNode) -> None:
    node = make_node()
    run(node)
    pid = spare(node)
    run(node, model="opus", system_prompt="Be brief.")
    gone(pid)
    assert spare(node) != pid


def test_a_continuation_takes_the_cold_path_and_goes_on_in_its_session(make_node: MakeNode) -> None:
    node = make_node()
    first = run(node)
    spare(node)
    again = run(node, "[[fake:ok]]", session=f"continue:{first.task_id}")
    assert again.session_id == first.session_id


def test_in_a_repository_the_process_waits_in_the_slots_work_tree_and_is_cleared_for_each_branch(
    make_node: MakeNode, scratch_repo: Path
) -> None:
    node = make_node(repo=scratch_repo)
    for number in range(3):
        result = run(node, f"[[fake:write path=f{number}.txt content=x]] [[fake:ok]]")
        assert result.branch is not None
        assert result.branch.paths == (f"f{number}.txt",)
        pid = spare(node)
        assert str(Path(f"/proc/{pid}/cwd").readlink()) == result.workspace
    tips = subprocess.run(["git", "branch", "--list", "pool/*"], cwd=scratch_repo, capture_output=True, check=True)
    assert len(tips.stdout.splitlines()) == 3


def test_a_process_that_died_while_it_waited_costs_the_task_nothing(make_node: MakeNode) -> None:
    node = make_node()
    run(node)
    pid = spare(node)
    os.kill(pid, signal.SIGKILL)
    gone(pid)
    result = run(node)
    counters = node.pool.get(result.task_id).counters
    assert (counters.attempts, counters.crashes, counters.infra_retries) == (1, 0, 0)


def test_a_process_that_hangs_at_its_prompt_is_stopped_like_any_other_run(make_node: MakeNode) -> None:
    node = make_node()
    run(node)
    pid = spare(node)
    os.kill(pid, signal.SIGSTOP)
    result = node.pool.run("[[fake:ok]]", wait_s=WAIT_S, timeout_s=0.5)
    assert result.state is TaskState.FAILED
    gone(pid)


def test_directories_in_which_processes_waited_do_not_pile_up(make_node: MakeNode) -> None:
    node = make_node()
    for _ in range(3):
        run(node)
        spare(node)
    kept = run(node, "[[fake:write path=a.txt content=kept]] [[fake:ok]]")
    assert (Path(kept.workspace or "") / "a.txt").read_text() == "kept"
    spare(node)
    until(lambda: len(list((node.config.node_dir / "scratch").iterdir())) == 3, "the kept one, its name, and the next")


def test_a_process_that_waited_too_long_goes_and_comes_back_with_the_next_task(make_node: MakeNode) -> None:
    node = make_node(warm_age_s=0.5)
    run(node)
    gone(spare(node))
    run(node)
    spare(node)


def test_off_means_that_nothing_waits(make_node: MakeNode) -> None:
    node = make_node(warm="off")
    run(node)
    assert waiting(node) == []


def test_a_task_that_wants_none_of_it_leaves_none_behind(make_node: MakeNode) -> None:
    node = make_node()
    run(node, warm="off")
    assert waiting(node) == []


# -- what happens when something dies: nothing of a process that waits is left


def test_a_killed_slot_takes_the_process_that_waits_with_it(make_node: MakeNode) -> None:
    node = make_node()
    run(node)
    pid = spare(node)
    os.kill(node.slot_pid(0), signal.SIGKILL)
    gone(pid)
    run(node)


def test_a_killed_guard_takes_it_along_and_the_next_task_runs_under_a_new_guard(make_node: MakeNode) -> None:
    node = make_node()
    run(node)
    pid = spare(node)
    os.kill(node.guard_pid(0), signal.SIGKILL)
    gone(pid)
    run(node)
    spare(node)


def test_a_stopped_slot_does_not_keep_its_process_beyond_its_lease(make_node: MakeNode) -> None:
    node = make_node(slots=2)
    for _ in range(4):  # both slots have worked
        node.pool.wait([node.pool.submit("[[fake:slow s=0.1]]").task_id for _ in range(2)], timeout_s=WAIT_S)
    pid, slot = spare(node), node.slot_pid(0)
    os.kill(slot, signal.SIGSTOP)
    try:
        gone(pid)
    finally:
        os.kill(slot, signal.SIGCONT)
    until(lambda: len(node.pool.slots()) == 2, "both slots are back")
    run(node)


def test_scaling_down_and_draining_leave_nothing_that_waits(make_node: MakeNode) -> None:
    node = make_node(slots=2)
    for _ in range(4):
        node.pool.wait([node.pool.submit("[[fake:slow s=0.1]]").task_id for _ in range(2)], timeout_s=WAIT_S)
    pids = [spare(node, number) for number in range(2)]
    node.pool.scale(1)
    until(lambda: len(node.pool.slots()) == 1, "one slot less")
    until(lambda: sum(Path(f"/proc/{pid}").exists() for pid in pids) == 1, "one process less")
    node.signal(signal.SIGTERM)
    node.wait()
    for pid in pids:
        gone(pid)


def test_a_node_that_dies_whole_leaves_nothing_that_waits(make_node: MakeNode) -> None:
    node = make_node()
    run(node)
    pid = spare(node)
    node.kill()
    gone(pid)
    node.start()
    run(node)


# -- reuse


def test_one_process_serves_one_task_after_the_other_each_in_a_session_of_its_own(
    make_node: MakeNode, fake_ledger: Any
) -> None:
    node = make_node(warm="reuse")
    run(node)
    pid = spare(node)
    results = [run(node, "[[fake:ok cost=0.5]]") for _ in range(4)]
    assert spare(node) == pid
    assert len({result.session_id for result in results}) == 4
    assert [result.cost_usd for result in results] == pytest.approx([0.5] * 4)
    assert fake_ledger.read().overlaps() == []


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        ("[[fake:tree]] [[fake:ok]]", {}),
        ("[[fake:api status=400]]", {}),
        ("[[fake:slow s=60]]", {"timeout_s": 0.5}),
        ("[[fake:write path=mine.txt content=x]] [[fake:ok]]", {}),
        ("[[fake:ok]]", {"warm": "spare"}),
    ],
    ids=["leaves processes", "fails", "is stopped", "leaves files", "is not trusted"],
)
def test_a_process_is_not_used_again_after_a_task_that(
    make_node: MakeNode, prompt: str, options: dict[str, Any]
) -> None:
    node = make_node(warm="reuse")
    run(node)
    run(node)
    pid = spare(node)
    node.pool.run(prompt, wait_s=WAIT_S, **options)
    gone(pid)
    run(node)


def test_it_is_renewed_after_as_many_tasks_as_it_may_serve(make_node: MakeNode, fake_ledger: Any) -> None:
    node = make_node(warm="reuse", warm_tasks=2)
    for _ in range(5):
        run(node)
    pids = [line.split()[3] for line in fake_ledger.path.read_text().split("\n") if line.startswith("S ")]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [1, 2, 2]


def test_a_task_with_other_rights_shares_no_process_with_the_one_before(make_node: MakeNode) -> None:
    node = make_node(warm="reuse")
    run(node, allowed_tools=["Bash(rm:*)"])
    run(node, allowed_tools=["Bash(rm:*)"])
    pid = spare(node)
    run(node)
    gone(pid)


def test_a_slot_that_is_killed_in_the_middle_of_a_reused_process_loses_nothing(
    make_node: MakeNode, fake_ledger: Any
) -> None:
    node = make_node(warm="reuse")
    for _ in range(2):
        run(node)
    task_id = node.pool.submit("[[fake:say text=x cost=0.1]] [[fake:slow s=30 every=0.2 times=1]] [[fake:ok]]").task_id
    until(lambda: any(entry.kind == "text" for entry in node.pool.stream(task_id, follow=False)), "first words")
    os.kill(node.slot_pid(0), signal.SIGKILL)
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is TaskState.COMPLETED
    assert fake_ledger.read().overlaps() == []
