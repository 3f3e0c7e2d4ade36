"""Routing at the counter: a task that is paid for, and a single task whenever it brings no plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import InvalidRequest, KeyReused
from claude_pool.models.route import AutoHint, Route
from claude_pool.models.task import ErrorCode, TaskError, TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.pool import Pool
from claude_pool.store import fake_store
from claude_pool.store.base import Doorbell
from claude_pool.testing.hands import Hand

TASK = "Translate the page into Danish and into Czech."
PLAN = {
    "route": "parallel",
    "reason": "two languages",
    "confidence": 0.9,
    "parts": [{"name": "da", "prompt": "into Danish"}, {"name": "cs", "prompt": "into Czech"}],
}
COST = 0.004


@dataclass
class Slot:
    """A broker whose doorbell is answered at once, with what is laid out."""

    pool: Pool | None = None
    answer: dict[str, Any] = field(default_factory=lambda: {"structured_output": PLAN})
    state: TaskState = TaskState.COMPLETED
    asleep: bool = False
    seen: list[str] = field(default_factory=list)

    def ring(self, bells: Sequence[Doorbell]) -> None:
        assert self.pool is not None
        for bell in bells:
            self.seen.append(bell.task_id)
            if not self.asleep:
                self._do(bell.task_id)

    def _do(self, task_id: str) -> None:
        assert self.pool is not None
        hand = Hand(self.pool.store)
        run = hand.run(task_id)
        error = TaskError(code=ErrorCode.MAX_TURNS, message="too many") if self.state is TaskState.FAILED else None
        result = TaskResult(task_id=task_id, state=self.state, run_id=run.run_id, error=error, **self.answer)
        verdict = Verdict(to=self.state, result=result, cost_usd=COST, error=error)
        assert self.pool.store.tasks.finish(task_id, run.run_id, verdict) is not None
        self.pool.store.slots.leave(hand.identity)

    def waiting(self, queue: str) -> int:
        return 0

    def close(self) -> None:
        pass


Make = Callable[..., tuple[Pool, Slot]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Pool] = []

    def pool_of(**settings: Any) -> tuple[Pool, Slot]:
        config = PoolConfig(home=tmp_path / "home", node="n1", **settings)
        store = fake_store(config)
        store.pool.prepare(epoch=None)
        slot = Slot()
        pool = Pool(config, store, slot)
        slot.pool = pool
        made.append(pool)
        return pool, slot

    yield pool_of
    for pool in made:
        pool.hub.close()
        pool.store.close()


def test_a_route_is_one_cheap_capped_call_without_tools_that_is_paid_for(make: Make) -> None:
    pool, slot = make(route_model="haiku", route_budget_usd=0.05, task_budget_usd=2.0)
    found = pool.route(TASK)
    assert (found.route, [part.prompt for part in found.parts]) == (Route.PARALLEL, ["into Danish", "into Czech"])
    assert (found.task_id, found.cost_usd, found.fallback) == (slot.seen[0], COST, "")
    detail = pool.detail(slot.seen[0])
    options = detail.task.options
    assert (options.model, options.tools, options.isolation, options.permission_mode) == ("haiku", (), "none", "plan")
    assert options.max_budget_usd == 0.05
    assert options.priority == 0
    assert options.json_schema is not None
    assert TASK in detail.prompt
    assert pool.status().spent_usd == pytest.approx(COST)
    assert [task.id for task in pool.list(tags=["route"]).tasks] == slot.seen


def test_the_owners_limit_of_a_task_holds_for_the_routing_call_too(make: Make) -> None:
    pool, slot = make(task_budget_usd=0.01)
    pool.route(TASK)
    assert pool.get(slot.seen[0]).options.max_budget_usd == 0.01


@pytest.mark.parametrize(
    ("answer", "state", "why"),
    [
        ({"output": "Done!"}, TaskState.COMPLETED, "no object with a route"),
        ({"structured_output": {"route": "parallel", "parts": []}}, TaskState.COMPLETED, "without a part"),
        ({}, TaskState.FAILED, "max_turns"),
    ],
)
def test_a_call_that_brings_no_plan_ends_in_a_single_task_and_its_cost_is_told(
    make: Make, answer: dict[str, Any], state: TaskState, why: str
) -> None:
    pool, slot = make()
    slot.answer, slot.state = answer, state
    found = pool.route(TASK)
    assert (found.route, found.parts[0].prompt, found.cost_usd) == (Route.SINGLE, TASK, COST)
    assert why in found.fallback


def test_a_call_that_no_slot_takes_is_cancelled_when_its_time_is_up(make: Make) -> None:
    pool, slot = make(route_timeout_s=0.05)
    slot.asleep = True
    found = pool.route(TASK)
    assert found.route is Route.SINGLE
    assert "no answer in time, it was pending" in found.fallback
    assert pool.get(slot.seen[0]).state is TaskState.CANCELLED


def test_nothing_is_asked_or_paid_when_the_hints_leave_no_choice(make: Make) -> None:
    pool, slot = make()
    found = pool.route(TASK, AutoHint(max_parallel=1, max_chain_steps=1))
    assert (found.route, found.cost_usd, slot.seen) == (Route.SINGLE, 0.0, [])


def test_the_same_key_finds_the_same_plan_and_another_task_under_it_is_refused(make: Make) -> None:
    pool, slot = make()
    first = pool.route(TASK, idempotency_key="k")
    assert pool.route(TASK, idempotency_key="k") == first
    assert len(slot.seen) == 1
    with pytest.raises(KeyReused):
        pool.route("Something else.", idempotency_key="k")


@pytest.mark.parametrize("prompt", ["", "a\x00b"])
def test_a_prompt_that_no_task_could_have_is_refused_before_anything_is_paid(make: Make, prompt: str) -> None:
    pool, slot = make()
    with pytest.raises(InvalidRequest):
        pool.route(prompt)
    assert slot.seen == []
