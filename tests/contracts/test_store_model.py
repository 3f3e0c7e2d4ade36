"""Any order of calls, fresh and stale, against the real scripts: the store does what the model of dictionaries does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from claude_pool.config import PoolConfig
from claude_pool.errors import Conflict
from claude_pool.ids import new_run_id
from claude_pool.keys import QUEUE
from claude_pool.models.base import to_micros, to_usd
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import TaskRequest, TaskState
from claude_pool.models.verdict import CountsAs, Verdict
from claude_pool.store.base import Claim
from claude_pool.store.client import new_fake_server
from claude_pool.store.redis import RedisStore, fake_store, open_store
from claude_pool.testing.hands import LEASE_MS, Hand
from claude_pool.testing.redis_server import RedisServer
from claude_pool.testing.store_model import AT_WORK, COUNTERS, FINAL, Model, ModelTask

pytestmark = pytest.mark.timeout(600)

SLOTS = 3
CENT = 10_000
ENDS = ["completed", "failed", "cancelled", "pending_review", "pending", "parked"]
Grant = tuple[str, str, int]
"""Task, run, slot; kept for ever, so that later rules use stale ones."""

caps = st.none() | st.integers(1, 40).map(lambda cents: cents * CENT)
limits = st.fixed_dictionaries(
    {
        "max_crashes": st.integers(1, 3),
        "max_continuations": st.integers(0, 2),
        "max_attempts": st.integers(1, 2),
        "max_infra_retries": st.integers(0, 2),
    }
)
_names = (f"machine{number}" for number in itertools.count())


class StoreMachine(RuleBasedStateMachine):
    """Subclasses give `open`."""

    tasks = Bundle("tasks")
    grants = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self.store = self.open(PoolConfig(name=next(_names)))
        self.raw: Any = self.store.client._quick
        self.hands = [Hand(self.store, number) for number in range(SLOTS)]
        self.model = Model(slots=SLOTS)
        self.keys: dict[str, str] = {}
        self.cursor = self.store.events.head()
        self.moves = 0
        self.last: dict[str, Any] = {}

    def open(self, config: PoolConfig) -> RedisStore:
        raise AssertionError

    def teardown(self) -> None:
        for key in self.raw.scan_iter(self.key("*"), count=1000):
            self.raw.delete(key)
        self.store.close()

    def key(self, *parts: str) -> str:
        return ":".join((self.store.client._pool, *parts))

    @initialize(limit=st.none() | st.integers(0, 100).map(lambda cents: cents * CENT))
    def begin(self, limit: int | None) -> None:
        self.change_limit(limit)

    @rule(limit=st.none() | st.integers(0, 200).map(lambda cents: cents * CENT))
    def change_limit(self, limit: int | None) -> None:
        self.model.limit = limit
        self.store.pool.set_limit("pool", None if limit is None else to_usd(limit))

    @rule(target=tasks, cap=caps, on_lost=st.sampled_from(["resume", "restart", "hold", "fail"]), limits=limits)
    def submit(self, cap: int | None, on_lost: Any, limits: dict[str, int]) -> str:
        options = TaskOptions(max_budget_usd=None if cap is None else to_usd(cap), on_lost=on_lost, **limits)
        (answer,) = self.store.tasks.submit([TaskRequest(prompt="x", options=options)], queue=QUEUE)
        self.model.submit(answer.task_id, ModelTask(cap=cap, on_lost=on_lost, limits=limits))
        return answer.task_id

    @rule(key=st.sampled_from("ab"))
    def submit_with_a_key(self, key: str) -> None:
        request = TaskRequest(prompt=key, idempotency_key=key)
        (answer,) = self.store.tasks.submit([request], queue=QUEUE)
        assert answer.created is (key not in self.keys)
        assert self.keys.setdefault(key, answer.task_id) == answer.task_id
        if answer.created:
            defaults = TaskOptions()
            limits = {name: getattr(defaults, name) for name in ("max_crashes", "max_continuations", "max_attempts")}
            limits["max_infra_retries"] = defaults.max_infra_retries
            self.model.submit(answer.task_id, ModelTask(cap=None, on_lost=defaults.on_lost, limits=limits))

    @rule(target=grants, task_id=tasks, data=st.data())
    def claim(self, task_id: str, data: st.DataObject) -> Grant:
        idle = sorted(set(range(SLOTS)) - self.model.busy()) or [0]
        slot, run_id = data.draw(st.sampled_from(idle)), new_run_id()
        answer = self.store.tasks.claim(task_id, self.hands[slot].identity, run_id, lease_ms=LEASE_MS)
        expected = self.model.claim(task_id, slot, run_id)
        assert ("granted" if isinstance(answer, Claim) else answer) == expected
        if isinstance(answer, Claim):
            held = self.model.tasks[task_id].reserved
            assert (answer.cap_usd or 0) == to_usd(held)
            assert self.model.room is None or self.model.room >= 0, "a claim was granted beyond the limit"
        return task_id, run_id, slot

    @rule(grant=grants)
    def begin_run(self, grant: Grant) -> None:
        task_id, run_id, _ = grant
        started = self.store.tasks.start(task_id, run_id, session_id=new_run_id())
        assert started == self.model.start(task_id, run_id)

    @rule(grant=grants)
    def release(self, grant: Grant) -> None:
        task_id, run_id, _ = grant
        assert self.store.tasks.release(task_id, run_id, reason="x") == self.model.release(task_id, run_id)

    @rule(grant=grants)
    def beat(self, grant: Grant) -> None:
        task_id, run_id, slot = grant
        beat = self.store.slots.beat(
            self.hands[slot].identity, task_id=task_id, run_id=run_id, lease_ms=LEASE_MS, progress="x"
        )
        assert (beat.fenced, beat.cancel) == self.model.beat(task_id, run_id)

    @rule(grant=grants, to=st.sampled_from(ENDS), share=st.integers(0, 100), counts_as=st.sampled_from(CountsAs))
    def finish(self, grant: Grant, to: str, share: int, counts_as: CountsAs) -> None:
        task_id, run_id, _ = grant
        task = self.model.tasks[task_id]
        cost = (task.reserved or task.charge or 50 * CENT) * share // 100
        parked: dict[str, Any] = {"parked_for": "retry", "delay_ms": 3_600_000} if to == "parked" else {}
        verdict = Verdict(to=TaskState(to), cost_usd=to_usd(cost), counts_as=counts_as, **parked)
        answer = self.store.tasks.finish(task_id, run_id, verdict)
        assert (answer is not None) == self.model.finish(task_id, run_id, to, cost, counts_as)

    @rule(task_id=tasks)
    def cancel(self, task_id: str) -> None:
        self.model.cancel(task_id)
        assert self.store.tasks.cancel(task_id, reason="asked").state == self.model.tasks[task_id].state

    @rule(task_id=tasks)
    def hold(self, task_id: str) -> None:
        try:
            self.store.tasks.hold(task_id, reason="x")
            held = True
        except Conflict:
            held = False
        assert held == self.model.hold(task_id)

    @rule(task_id=tasks)
    def wake(self, task_id: str) -> None:
        assert (self.store.tasks.wake(task_id) is not None) == self.model.wake(task_id)

    @rule(task_id=tasks)
    def lose(self, task_id: str) -> None:
        """The lease of this task runs out: its score moves into the past, which is a clock jump in small."""
        self.raw.zadd(self.key("leases"), {task_id: 1}, xx=True)
        was_at_work = self.model.tasks[task_id].state in AT_WORK
        lost = self.store.house.reap(slack_ms=0)
        assert [one.task_id for one in lost] == ([task_id] if was_at_work else [])
        if was_at_work:
            assert lost[0].state == self.model.lose(task_id)
            assert (lost[0].bell is not None) == (lost[0].state == "pending")

    @rule()
    def let_time_pass(self) -> None:
        """Every delay is over; money that came free may have woken others."""
        waiting = {
            id_ for id_, task in self.model.tasks.items() if (task.state, task.parked_for) == ("parked", "retry")
        }
        for task_id in waiting:
            self.raw.zadd(self.key("due"), {task_id: 1}, xx=True)
        woken = {bell.task_id for bell in self.store.house.due()}
        assert woken >= waiting
        for task_id in woken:
            assert self.model.tasks[task_id].parked_for in {"retry", "budget"}
            assert self.model.wake(task_id)

    @rule()
    def add_money(self) -> None:
        for bell in self.store.pool.release_budget("pool"):
            assert self.model.tasks[bell.task_id].parked_for == "budget"
            assert self.model.wake(bell.task_id)

    @precondition(lambda self: self.model.tasks)
    @invariant()
    def records_agree(self) -> None:
        found = self.store.tasks.get_many(list(self.model.tasks))
        for task_id, task in self.model.tasks.items():
            real = found[task_id]
            assert real.state == task.state
            assert real.run_id == task.run_id
            assert (to_micros(real.cost_usd), to_micros(real.reserved_usd)) == (task.cost, task.reserved)
            assert real.cancel_requested == task.cancel
            assert real.parked_for == task.parked_for
            assert {name: getattr(real.counters, name) for name in COUNTERS} == task.counts

    @invariant()
    def books_agree(self) -> None:
        status = self.store.pool.status()
        assert (to_micros(status.reserved_usd), to_micros(status.spent_usd)) == (self.model.reserved, self.model.spent)
        assert self.model.reserved == sum(task.reserved for task in self.model.tasks.values())
        assert self.model.spent == sum(task.cost for task in self.model.tasks.values())
        assert status.busy == len(self.model.busy())

    @invariant()
    def indexes_agree(self) -> None:
        tasks = self.model.tasks
        by_state = {state: {id_ for id_, task in tasks.items() if task.state == state} for state in TaskState}
        indexes = [*(f"state:{state}" for state in TaskState), "index", "leases", "bells", "due", "waits:budget:pool"]
        waits = [id_ for id_, task in tasks.items() if task.parked_for == "budget"]
        with self.raw.pipeline(transaction=False) as pipe:
            for index in (*indexes, *(f"waits:budget:{id_}" for id_ in waits)):
                pipe.zrange(self.key(index), 0, -1)
            found = [set(ids) for ids in pipe.execute()]
        *states, all_, leases, bells, due, pool = found[: len(indexes)]
        assert dict(zip(TaskState, states, strict=True)) == by_state
        assert all_ == set(tasks)
        assert leases == by_state[TaskState.CLAIMED] | by_state[TaskState.RUNNING]
        assert bells == by_state[TaskState.PENDING]
        assert due <= by_state[TaskState.PARKED]
        assert pool.union(*found[len(indexes) :]) == set(waits)

    @invariant()
    def events_agree(self) -> None:
        events, self.cursor = self.store.events.read(self.cursor, limit=100_000)
        moves = [event for event in events if event.state is not None]
        self.moves += len(moves)
        assert self.moves == self.model.moves
        self.last |= {event.subject: event.state for event in moves}
        assert self.last == {id_: task.state for id_, task in self.model.tasks.items()}
        assert not [event for event in moves if event.was in FINAL]


class FakeMachine(StoreMachine):
    def open(self, config: PoolConfig) -> RedisStore:
        return fake_store(config, server=new_fake_server())


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        stateful_step_count=25,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def test_any_order_of_calls_ends_as_the_model_says_in_this_process() -> None:
    run_state_machine_as_test(FakeMachine, settings=examples(20))


@pytest.fixture
def real_machine(redis_server: RedisServer) -> Iterator[type[StoreMachine]]:
    class RealMachine(StoreMachine):
        def open(self, config: PoolConfig) -> RedisStore:
            return open_store(redis_server.url, config)

        @rule()
        def forget_scripts(self) -> None:
            self.raw.script_flush()

    yield RealMachine
    redis_server.flush()


@pytest.mark.redis
def test_any_order_of_calls_ends_as_the_model_says_on_a_real_server(real_machine: type[StoreMachine]) -> None:
    run_state_machine_as_test(real_machine, settings=examples(100))
