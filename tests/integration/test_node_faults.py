"""A node that is hurt: every task still ends once, in the right state, with its cost known, and nothing is left."""

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from claude_pool import embedded
from claude_pool.broker import CeleryBroker, make_app
from claude_pool.config import PoolConfig
from claude_pool.errors import Unreachable
from claude_pool.models.task import ErrorCode, ParkedFor, TaskState
from claude_pool.store.base import Doorbell
from claude_pool.testing.node import TestNode, children_of, command_line, descendants_of, until
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


def running(node: TestNode, prompt: str, **options: object) -> str:
    """Submit a task and wait until its process runs and has said something."""
    task_id = node.pool.submit(prompt, **options).task_id
    until(lambda: node.pool.get(task_id).state is TaskState.RUNNING, "running")
    until(lambda: any(entry.kind == "text" for entry in node.pool.stream(task_id, follow=False)), "first words")
    return task_id


INTERRUPTED = '[[fake:say text=working cost=0.1]] [[fake:slow s=30 every=0.2 times=1]] [[fake:ok text="finished"]]'


def test_a_slot_killed_in_the_middle_loses_nothing_and_its_task_goes_on_in_the_same_session(
    make_node: MakeNode, fake_ledger: object
) -> None:
    node = make_node()
    task_id = running(node, INTERRUPTED)
    session = node.pool.get(task_id).session_id
    os.kill(node.slot_pid(0), signal.SIGKILL)
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    task = waited.finished[0]
    assert task.state is TaskState.COMPLETED, task
    assert task.session_id == session
    assert (task.counters.attempts, task.counters.continuations, task.counters.crashes) == (1, 1, 1)
    assert [run.kind for run in node.pool.detail(task_id).runs] == ["attempt", "continuation"]
    assert fake_ledger.read().overlaps() == []  # type: ignore[attr-defined]


def test_a_stopped_slot_is_replaced_without_two_runs_at_once_and_its_late_word_is_refused(
    make_node: MakeNode, fake_ledger: object
) -> None:
    node = make_node(slots=2)
    task_id = running(node, INTERRUPTED)
    number = int((node.pool.get(task_id).slot or "slot-0@").removeprefix("slot-").partition("@")[0])
    pid = node.slot_pid(number)
    os.kill(pid, signal.SIGSTOP)
    try:
        waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert waited.finished[0].state is TaskState.COMPLETED
    assert fake_ledger.read().overlaps() == []  # type: ignore[attr-defined]
    until(lambda: len(node.pool.slots()) == 2, "the stopped slot is back")
    assert node.pool.get(task_id).state is TaskState.COMPLETED


def test_a_killed_guard_ends_the_run_and_the_task_goes_on(make_node: MakeNode) -> None:
    node = make_node()
    task_id = running(node, INTERRUPTED)
    os.kill(node.guard_pid(0), signal.SIGKILL)
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is TaskState.COMPLETED


def test_a_killed_cli_is_a_crash_and_the_third_one_is_final(make_node: MakeNode) -> None:
    node = make_node()
    result = node.pool.run("[[fake:say text=x cost=0.1]] [[fake:signal]]", wait_s=WAIT_S)
    assert result.state is TaskState.FAILED
    assert result.error is not None
    assert result.error.code is ErrorCode.DEAD_LETTER
    assert node.pool.get(result.task_id).counters.crashes == 3
    assert node.pool.status().idle == 1


def test_a_task_that_kills_its_slot_again_and_again_ends_as_dead_letter_and_the_slot_lives(make_node: MakeNode) -> None:
    node = make_node()
    task_id = node.pool.submit("[[fake:say text=x]] [[fake:kill-parent up=2]] [[fake:slow s=30]]").task_id
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is TaskState.FAILED, waited
    error = waited.finished[0].error
    assert error is not None
    assert error.code is ErrorCode.DEAD_LETTER
    assert node.pool.run("[[fake:ok]]", wait_s=WAIT_S).state is TaskState.COMPLETED


@pytest.mark.parametrize(
    ("on_lost", "state"),
    [("hold", TaskState.PARKED), ("fail", TaskState.FAILED), ("restart", TaskState.COMPLETED)],
)
def test_what_a_lost_run_means_is_the_tasks_choice(make_node: MakeNode, on_lost: str, state: TaskState) -> None:
    node = make_node()
    task_id = running(node, INTERRUPTED, on_lost=on_lost)
    os.kill(node.slot_pid(0), signal.SIGKILL)
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is state
    if state is TaskState.PARKED:
        assert waited.finished[0].parked_for is ParkedFor.HOLD
        assert node.pool.wake(task_id)
        assert node.pool.wait([task_id], timeout_s=WAIT_S).finished[0].state is TaskState.COMPLETED


def test_a_node_that_dies_whole_goes_on_where_it_stopped_when_it_is_started_again(make_node: MakeNode) -> None:
    node = make_node()
    task_id = running(node, INTERRUPTED)
    waiting = node.pool.submit("[[fake:ok]]").task_id
    node.kill()
    node.start()
    waited = node.pool.wait([task_id, waiting], timeout_s=WAIT_S)
    assert {task.state for task in waited.finished} == {TaskState.COMPLETED}


def test_a_supervisor_that_dies_alone_lets_its_slot_finish_the_task_in_hand(make_node: MakeNode) -> None:
    node = make_node()
    task_id = running(node, "[[fake:say text=x]] [[fake:slow s=3]] [[fake:ok text=finished]]")
    slot = node.slot_pid(0)
    node.signal(signal.SIGKILL)
    node.wait()
    node.start(ready=False)
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is TaskState.COMPLETED
    assert node.pool.get(task_id).counters.runs == 1
    until(lambda: not command_line(slot), "the orphaned slot leaves")
    until(lambda: len(node.pool.slots()) == 1, "the new node has its slot")


def test_a_killed_housekeeper_is_replaced(make_node: MakeNode) -> None:
    node = make_node()
    slot = node.slot_pid(0)
    keepers = [pid for pid in children_of(node.pid) if pid != slot and b"claude-pool-worker" in command_line(pid)]
    assert len(keepers) == 1
    os.kill(keepers[0], signal.SIGKILL)
    until(lambda: len([pid for pid in children_of(node.pid) if pid != slot]) == 1, "a new housekeeper")


def test_two_nodes_of_one_name_never_work_at_once(make_node: MakeNode) -> None:
    node = make_node()
    second = TestNode(node.config)
    second.log_path = node.log_path.with_suffix(".2")
    try:
        second.start(ready=False)
        assert second.wait() == 4
        assert "running on this host already" in second.log()
    finally:
        second.__exit__(None, None, None)


def test_a_lost_doorbell_is_rung_again(make_node: MakeNode, private_redis: RedisServer) -> None:
    node = make_node(redis_url=private_redis.url)
    busy = node.pool.submit("[[fake:slow s=1]]").task_id
    waiting = [node.pool.submit("[[fake:ok]]").task_id for _ in range(3)]
    until(lambda: node.pool.status().busy == 1, "busy")
    for priority in range(5):
        suffix = "" if priority == 0 else f"\x06\x16{priority}"
        private_redis.command("DEL", f"{node.config.name}:mq:tasks{suffix}")
    waited = node.pool.wait([busy, *waiting], timeout_s=WAIT_S)
    assert {task.state for task in waited.finished} == {TaskState.COMPLETED}


def test_forged_and_repeated_doorbells_start_nothing(make_node: MakeNode, private_redis: RedisServer) -> None:
    node = make_node(redis_url=private_redis.url)
    done = node.pool.run("[[fake:ok]]", wait_s=WAIT_S).task_id
    broker = CeleryBroker(make_app(node.config.name, private_redis.url))
    ids = [done, "t-0000000000", "../../etc", "", "t-zzz\n"]
    broker.ring([Doorbell(task_id=task_id, queue="tasks", priority=2) for task_id in ids * 10])
    assert node.pool.run("[[fake:ok]]", wait_s=WAIT_S).state is TaskState.COMPLETED
    until(lambda: broker.waiting("tasks") == 0, "all heard")
    broker.close()
    assert node.pool.get(done).counters.runs == 1


def test_redis_killed_and_restarted_under_a_running_task_costs_nothing(
    make_node: MakeNode, private_redis: RedisServer
) -> None:
    node = make_node(redis_url=private_redis.url, lease_s=10)
    task_id = running(node, "[[fake:say text=x]] [[fake:slow s=2]] [[fake:ok text=finished]]")
    private_redis.kill()
    private_redis.start()
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is TaskState.COMPLETED
    assert node.pool.get(task_id).counters.runs == 1
    assert node.pool.run("[[fake:ok]]", wait_s=WAIT_S).state is TaskState.COMPLETED


def test_a_result_that_comes_while_redis_is_away_is_delivered_later(
    make_node: MakeNode, private_redis: RedisServer
) -> None:
    node = make_node(redis_url=private_redis.url, lease_s=20)
    task_id = running(node, "[[fake:say text=x]] [[fake:slow s=1]] [[fake:ok text=finished]]")
    private_redis.kill()
    journal = node.config.node_dir / "journal"
    until(lambda: any(journal.glob("*.json")), "the result is in the journal")
    private_redis.start()
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is TaskState.COMPLETED
    assert node.pool.result(task_id).output == "finished"
    until(lambda: not any(journal.glob("*.json")), "the journal is empty")


def test_a_result_in_the_journal_of_a_dead_node_is_delivered_by_the_next(
    make_node: MakeNode, private_redis: RedisServer
) -> None:
    node = make_node(redis_url=private_redis.url, lease_s=20)
    task_id = running(node, "[[fake:say text=x]] [[fake:slow s=1]] [[fake:ok text=finished]]")
    private_redis.kill()
    until(lambda: any((node.config.node_dir / "journal").glob("*.json")), "the result is in the journal")
    node.kill()
    private_redis.start()
    node.start(ready=False)
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is TaskState.COMPLETED
    assert node.pool.get(task_id).counters.runs == 1


def test_a_private_redis_that_is_killed_with_its_keeper_is_brought_back_by_the_node(make_node: MakeNode) -> None:
    node = make_node(lease_s=10)
    task_id = running(node, "[[fake:say text=x]] [[fake:slow s=2]] [[fake:ok text=finished]]")
    server = embedded.running(node.config)
    assert server is not None
    with ThreadPoolExecutor() as executor:
        waiting = executor.submit(node.pool.wait, [task_id], timeout_s=WAIT_S)
        until(lambda: any(thread.name == "hub" for thread in threading.enumerate()), "somebody waits")
        for pid in (server.keeper_pid, server.pid):
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        assert waiting.result().finished[0].state is TaskState.COMPLETED
    assert node.pool.get(task_id).counters.runs == 1


def test_submitting_while_redis_is_away_says_so(make_node: MakeNode, private_redis: RedisServer) -> None:
    node = make_node(redis_url=private_redis.url)
    private_redis.kill()
    with pytest.raises(Unreachable):
        node.pool.submit("[[fake:ok]]")
    private_redis.start()


def test_a_full_redis_refuses_new_work_and_still_takes_results(make_node: MakeNode, private_redis: RedisServer) -> None:
    node = make_node(redis_url=private_redis.url)
    task_id = running(node, "[[fake:say text=x]] [[fake:slow s=1]] [[fake:ok text=finished]]")
    private_redis.command("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(Unreachable):
        node.pool.submit("[[fake:ok]]")
    until(lambda: node.pool.get(task_id).state is TaskState.COMPLETED, "completed although Redis is full")
    private_redis.command("CONFIG", "SET", "maxmemory", "0")
    assert node.pool.run("[[fake:ok]]", wait_s=WAIT_S).state is TaskState.COMPLETED


def test_a_store_that_was_reset_is_noticed_and_nothing_is_claimed(
    make_node: MakeNode, private_redis: RedisServer
) -> None:
    node = make_node(redis_url=private_redis.url)
    assert node.pool.run("[[fake:ok]]", wait_s=WAIT_S).state is TaskState.COMPLETED
    node.stop()
    private_redis.flush()
    node.start(ready=False)
    assert node.wait() == 4
    assert "--accept-reset" in node.log()


def test_a_redis_restored_from_an_older_copy_is_noticed_and_nothing_is_claimed(
    make_node: MakeNode, private_redis: RedisServer, tmp_path: Path
) -> None:
    node = make_node(redis_url=private_redis.url)
    assert node.pool.run("[[fake:ok]]", wait_s=WAIT_S).state is TaskState.COMPLETED
    private_redis.kill()
    shutil.copytree(private_redis.folder / "appendonlydir", tmp_path / "copy")
    private_redis.start()
    assert node.pool.run("[[fake:ok]]", wait_s=WAIT_S).state is TaskState.COMPLETED
    node.stop()
    private_redis.kill()
    shutil.rmtree(private_redis.folder / "appendonlydir")
    shutil.copytree(tmp_path / "copy", private_redis.folder / "appendonlydir")
    private_redis.start()
    node.start(ready=False)
    assert node.wait() == 4
    assert "--accept-reset" in node.log()


def test_a_drain_lets_running_tasks_finish_and_says_what_is_left(make_node: MakeNode) -> None:
    node = make_node(slots=2)
    ids = [node.pool.submit("[[fake:say text=x]] [[fake:slow s=4]] [[fake:ok]]").task_id for _ in range(2)]
    until(lambda: all(node.pool.get(task_id).state is TaskState.RUNNING for task_id in ids), "both running")
    later = node.pool.submit("[[fake:ok]]").task_id
    summary = node.pool.drain(deadline_s=20)
    assert set(summary.finished) == set(ids)
    assert summary.checkpointed == ()
    assert (summary.waiting, summary.slots_left, summary.timed_out) == (1, 0, False)
    assert node.wait() == 0
    assert node.pool.get(later).state is TaskState.PENDING


def test_a_drain_past_its_deadline_checkpoints_and_the_next_node_goes_on(make_node: MakeNode) -> None:
    node = make_node()
    task_id = running(node, INTERRUPTED)
    summary = node.pool.drain(deadline_s=0.5)
    assert summary.checkpointed == (task_id,)
    node.wait()
    node.start()
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    task = waited.finished[0]
    assert task.state is TaskState.COMPLETED
    assert task.counters.attempts == 1
    assert [run.kind for run in node.pool.detail(task_id).runs] == ["attempt", "continuation"]


def test_scaling_up_and_down_at_run_time_leaves_busy_slots_their_task(make_node: MakeNode) -> None:
    node = make_node(max_slots=4)
    task_id = running(node, "[[fake:say text=x]] [[fake:slow s=2]] [[fake:ok]]")
    assert node.pool.scale(3) == 3
    until(lambda: len(node.pool.slots()) == 3, "three slots")
    assert node.pool.scale(99) == 4
    node.pool.scale(0)
    until(lambda: len(node.pool.slots()) == 1, "only the busy one is left")
    assert node.pool.wait([task_id], timeout_s=WAIT_S).finished[0].state is TaskState.COMPLETED
    until(lambda: node.pool.slots() == [], "it left after its task")


def test_a_cancelled_tree_of_processes_is_gone(make_node: MakeNode) -> None:
    node = make_node()
    task_id = running(node, "[[fake:tree n=3 ignore-term]] [[fake:say text=x cost=0.2]] [[fake:hang ignore-term]]")
    tree = descendants_of(node.guard_pid(0))
    assert len(tree) > 9
    node.pool.cancel(task_id)
    waited = node.pool.wait([task_id], timeout_s=WAIT_S)
    assert waited.finished[0].state is TaskState.CANCELLED
    assert [pid for pid in tree if command_line(pid)] == []
