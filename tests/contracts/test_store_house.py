from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import NotFound
from claude_pool.ids import new_run_id
from claude_pool.keys import PROTOCOL, queue_of_node
from claude_pool.models.events import LogEntry
from claude_pool.models.pool import NodeIdentity
from claude_pool.models.task import ErrorCode, ParkedFor, TaskState
from claude_pool.store.base import TaskFilter
from claude_pool.store.redis import RedisStore
from claude_pool.testing.hands import Hand

FAR_MS = 10_000_000_000_000


def overdue(bench: Any, task_id: str) -> None:
    """Make the doorbell overdue: the portable way to let time pass."""
    bench.raw.zadd(bench.key("bells"), {task_id: 1})
    bench.raw.hset(bench.key("task", task_id), "rung_ms", 1)


# -- lost runs


@pytest.mark.parametrize(
    ("on_lost", "limits", "state", "kind"),
    [
        ("resume", {}, TaskState.PENDING, "continuation"),
        ("resume", {"max_continuations": 0}, TaskState.FAILED, None),
        ("restart", {"max_attempts": 2}, TaskState.PENDING, "attempt"),
        ("restart", {"max_attempts": 1}, TaskState.FAILED, None),
        ("hold", {}, TaskState.PARKED, "continuation"),
        ("fail", {}, TaskState.FAILED, None),
    ],
)
def test_a_lost_run_goes_by_the_tasks_policy(
    store: RedisStore, hand: Hand, on_lost: str, limits: dict[str, int], state: TaskState, kind: str | None
) -> None:
    claim, lost = hand.lose(hand.submit(on_lost=on_lost, **limits))
    task = store.tasks.get(claim.task.id)
    assert lost.state is task.state is state
    assert (lost.bell is not None) is (state is TaskState.PENDING)
    assert task.counters.crashes == 1
    assert task.error is not None
    assert task.error.code is ErrorCode.LOST
    if kind is not None:
        assert task.next_kind == kind
    if state is TaskState.PARKED:
        assert (task.parked_for, task.until_ms) == (ParkedFor.HOLD, None)


def test_a_resumed_run_after_a_loss_is_told_so(hand: Hand) -> None:
    first, _ = hand.lose(hand.submit())
    second = hand.run(first.task.id)
    assert (second.kind, second.lost_before) == ("continuation", True)
    assert second.resume_session_id is not None
    hand.finish(second, "pending")
    assert not hand.claim(first.task.id).lost_before


def test_a_poison_task_becomes_a_dead_letter(store: RedisStore, hand: Hand) -> None:
    task_id = hand.submit(max_crashes=3)
    states = [hand.lose(task_id)[1].state for _ in range(3)]
    assert states == [TaskState.PENDING, TaskState.PENDING, TaskState.FAILED]
    error = store.tasks.get(task_id).error
    assert error is not None
    assert error.code is ErrorCode.DEAD_LETTER


def test_losing_a_claimed_task_is_free(store: RedisStore, hand: Hand) -> None:
    claim, lost = hand.lose(hand.submit(max_budget_usd=1), claimed=True)
    task = store.tasks.get(claim.task.id)
    assert lost.state is task.state is TaskState.PENDING
    assert (task.cost_usd, task.counters.crashes, task.counters.attempts) == (0, 0, 0)
    assert (store.pool.status().spent_usd, store.pool.status().reserved_usd) == (0, 0)


def test_a_task_that_loses_its_slot_before_every_start_ends(store: RedisStore, hand: Hand) -> None:
    task_id = hand.submit(max_infra_retries=1)
    states = [hand.lose(task_id, claimed=True)[1].state for _ in range(2)]
    assert states == [TaskState.PENDING, TaskState.FAILED]
    error = store.tasks.get(task_id).error
    assert error is not None
    assert error.code is ErrorCode.DEAD_LETTER


def test_a_lost_run_is_paid_in_full_until_it_is_known_better(store: RedisStore, hand: Hand) -> None:
    claim, _ = hand.lose(hand.submit(max_budget_usd=0.5, on_lost="fail"))
    (run,) = store.tasks.runs(claim.task.id)
    assert (run.outcome, run.cost_usd, run.cost_estimated) == ("lost", 0.5, True)
    result = store.tasks.detail(claim.task.id).result
    assert result is not None
    assert (result.cost_usd, result.cost_estimated) == (0.5, True)


def test_a_lost_run_frees_its_slot_in_the_books(store: RedisStore, hand: Hand) -> None:
    hand.lose(hand.submit())
    assert (store.slots.slots()[0].task_id, store.pool.status().busy) == (None, 0)


def test_nothing_is_reaped_within_the_slack(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit(), lease_ms=1)
    assert store.house.reap(slack_ms=3_600_000) == []
    assert hand.reaped(claim.task.id).run_id == claim.run_id


def test_a_beat_saves_a_run_that_was_not_reaped_yet(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit(), lease_ms=1)
    assert not hand.beat(claim).fenced
    assert store.house.reap(slack_ms=0) == []


def test_reaping_is_bounded(store: RedisStore, hand: Hand) -> None:
    for _ in range(3):
        hand.run(hand.submit(), lease_ms=1)
    seen = store.house.now_ms()
    while store.house.now_ms() <= seen + 2:
        pass
    assert len(store.house.reap(slack_ms=0, limit=2)) == 2
    assert len(store.house.reap(slack_ms=0, limit=2)) == 1


def test_slots_that_were_silent_for_a_day_are_forgotten(bench: Any, hand: Hand) -> None:
    bench.raw.zadd(bench.key("slots"), {hand.identity.slot_id: 1})
    bench.store.house.reap(slack_ms=0)
    assert not bench.raw.exists(bench.key("slot", hand.identity.slot_id))


# -- doorbells


def test_a_resumed_run_is_rung_on_the_node_that_has_its_session(store: RedisStore, hand: Hand) -> None:
    node = NodeIdentity(node="n1", incarnation=new_run_id(), host="h", pid=1, version="1", protocol=PROTOCOL, slots=1)
    store.slots.register_node(node, lease_ms=60_000)
    _, lost = hand.lose(hand.submit())
    assert lost.bell is not None
    assert lost.bell.queue == queue_of_node("n1")
    store.slots.leave_node(node)
    _, lost = hand.lose(lost.task_id)
    assert lost.bell is not None
    assert lost.bell.queue == "tasks"


def test_a_fresh_doorbell_is_not_rung_again(store: RedisStore, hand: Hand) -> None:
    hand.submit()
    assert store.house.unrung() == []
    assert store.house.unrung(queue_empty=True) == []


def test_an_overdue_doorbell_is_rung_again_once_and_later_each_time(bench: Any, hand: Hand) -> None:
    task_id = hand.submit(priority=0)
    pauses: list[float] = []
    for _ in range(8):
        overdue(bench, task_id)
        (bell,) = bench.store.house.unrung()
        assert (bell.task_id, bell.priority) == (task_id, 0)
        assert bench.store.house.unrung() == []
        pauses.append(round((bench.raw.zscore(bench.key("bells"), task_id) - bench.store.house.now_ms()) / 60_000))
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]


def test_with_an_empty_queue_every_pending_task_is_rung_whatever_its_time(bench: Any, hand: Hand) -> None:
    ids = [hand.submit() for _ in range(3)]
    for task_id in ids[:2]:
        bench.raw.hset(bench.key("task", task_id), "rung_ms", 1)
    assert {bell.task_id for bell in bench.store.house.unrung(queue_empty=True)} == set(ids[:2])
    assert bench.store.house.unrung(queue_empty=True) == []


def test_a_task_that_is_not_pending_is_never_rung(bench: Any, hand: Hand) -> None:
    task_id = hand.submit()
    hand.claim(task_id)
    overdue(bench, task_id)
    assert bench.store.house.unrung() == []
    assert bench.raw.zcard(bench.key("bells")) == 0


def test_due_is_bounded_and_in_order(store: RedisStore, hand: Hand) -> None:
    ids = [hand.submit() for _ in range(3)]
    for until_ms, task_id in zip((30, 10, 20), ids, strict=True):
        hand.finish(hand.run(task_id), "parked", parked_for="retry", until_ms=until_ms)
    assert [bell.task_id for bell in store.house.due(limit=2)] == [ids[1], ids[2]]
    assert [bell.task_id for bell in store.house.due(limit=2)] == [ids[0]]


# -- forgetting


def test_a_forgotten_task_leaves_nothing_behind(bench: Any, hand: Hand) -> None:
    store = bench.store
    empty = set(bench.raw.keys(bench.key("*")))
    task_id = hand.submit(tags=("x", "y"), key="k")
    claim = hand.run(task_id)
    store.logs.append(task_id, [LogEntry(run_id=claim.run_id, kind="text", text="x")])
    hand.finish(claim, "completed", output="x")
    assert store.house.forget(older_than_ms=FAR_MS) == 1
    left = set(bench.raw.keys(bench.key("*"))) - empty
    assert left <= {bench.key("events"), bench.key("ledger", "pool"), bench.key("meta")}
    with pytest.raises(NotFound):
        store.tasks.get(task_id)
    assert store.tasks.list(TaskFilter(tags=("x",))).tasks == ()
    assert hand.submit(key="k") != task_id


def test_only_final_tasks_that_ended_before_are_forgotten(store: RedisStore, hand: Hand) -> None:
    waiting, done = hand.submit(), hand.submit()
    hand.finish(hand.run(done), "failed")
    ended_ms = store.tasks.get(done).since_ms
    assert store.house.forget(older_than_ms=ended_ms) == 0
    assert store.house.forget(older_than_ms=FAR_MS) == 1
    assert hand.state(waiting) is TaskState.PENDING


def test_forgetting_is_bounded(store: RedisStore, hand: Hand) -> None:
    for number in range(5):
        task_id = hand.submit()
        if number % 2:
            store.tasks.cancel(task_id, reason="x")
        else:
            hand.finish(hand.run(task_id), "completed")
    assert [store.house.forget(older_than_ms=FAR_MS, limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_an_idempotency_key_is_kept_for_a_week_at_least(make_bench: Callable[..., Any]) -> None:
    bench = make_bench(keep_days=0.1)
    Hand(bench.store).submit(key="k")
    (key,) = bench.raw.keys(bench.key("idem", "*"))
    assert bench.raw.pttl(key) > 6.9 * 86_400_000
    assert PoolConfig.model_fields["keep_days"].default >= 7


# -- the lease of the house


def test_one_keeps_house_at_a_time(bench: Any) -> None:
    house = bench.store.house
    assert house.lead("a", ttl_ms=60_000)
    assert not house.lead("b", ttl_ms=60_000)
    assert house.lead("a", ttl_ms=60_000)
    bench.raw.delete(bench.key("leader"))
    assert house.lead("b", ttl_ms=60_000)
    assert not house.lead("a", ttl_ms=60_000)
