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
from claude_pool.models.task import ErrorCode, Submitter, TaskError, TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.pool import Pool
from claude_pool.store import fake_store
from claude_pool.store.base import Claim, Doorbell
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
        run = hand.try_claim(task_id)
        if not isinstance(run, Claim):
            return
        assert hand.start(run)
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


def test_a_budget_that_has_no_room_for_the_call_is_a_single_task_that_says_so(make: Make) -> None:
    pool, _ = make(route_budget_usd=0.5)
    pool.store.pool.set_limit("pool", 0.1)
    found = pool.route(TASK)
    assert found.route is Route.SINGLE
    assert "budget" in found.fallback
    assert pool.list(states=["pending", "parked"]).tasks == ()


def test_a_pool_that_takes_no_new_work_is_a_single_task_that_says_so(make: Make) -> None:
    pool, slot = make()
    pool.store.pool.set_accepting(accepting=False)
    found = pool.route(TASK)
    assert (found.route, found.task_id, slot.seen) == (Route.SINGLE, None, [])
    assert "refused" in found.fallback


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


# -- carrying out


CHAIN = PLAN | {"route": "chain"}


def test_a_parallel_plan_becomes_a_fan_out_with_its_labels_models_and_gather(make: Make) -> None:
    pool, slot = make(model="sonnet")
    parts = [{"name": "da", "prompt": "into {Danish}", "model": "haiku"}, {"name": "cs", "prompt": "into Czech"}]
    slot.answer = {"structured_output": {**PLAN, "parts": parts, "gather": "Compare {them}."}}
    done = pool.auto(TASK, tags=("docs",), json_schema={"type": "object"}, max_budget_usd=2.0)
    assert done.id.startswith("f-")
    result = pool.fan_out_result(done.id)
    assert [branch.label for branch in result.results] == ["da", "cs"]
    details = [pool.detail(task_id) for task_id in done.task_ids]
    assert [detail.prompt for detail in details] == ["into {Danish}", "into Czech"]
    assert [detail.task.options.model for detail in details] == ["haiku", "sonnet"]
    assert [detail.task.options.json_schema for detail in details] == [None, None]
    assert all("docs" in detail.task.options.tags for detail in details)
    progress = pool.fan_out_progress(done.id)
    assert progress.budget_usd == 2.0
    assert [detail.task.options.max_budget_usd for detail in details] == [pytest.approx(2 / 3)] * 2
    assert pool.detail(progress.gather_id or "").task.options.json_schema == {"type": "object"}


def test_a_chain_plan_becomes_a_chain_whose_last_step_owes_the_schema(make: Make) -> None:
    pool, slot = make()
    slot.answer = {"structured_output": CHAIN}
    done = pool.auto(TASK, json_schema={"type": "object"}, max_budget_usd=2.0, model="opus")
    assert done.id.startswith("c-")
    assert pool.chain_progress(done.id).budget_usd == 2.0
    options = [pool.detail(task_id).task.options for task_id in done.task_ids]
    assert [one.json_schema for one in options] == [None, {"type": "object"}]
    assert {one.model for one in options} == {"opus"}


def test_a_single_plan_becomes_a_task_with_the_callers_words_and_the_plans_model(make: Make) -> None:
    pool, slot = make()
    slot.answer = {"structured_output": {**PLAN, "route": "single", "parts": [{"prompt": "else", "model": "haiku"}]}}
    done = pool.auto(TASK, allowed_tools=("Bash(git:*)",))
    detail = pool.detail(done.id)
    assert (detail.prompt, detail.task.options.model) == (TASK, "haiku")
    assert detail.task.options.allowed_tools == ("Bash(git:*)",)
    assert pool.get(done.id).options.tags == ()


def test_a_model_that_the_caller_chose_is_not_changed_by_a_plan(make: Make) -> None:
    pool, slot = make()
    slot.answer = {"structured_output": {**PLAN, "parts": [{"prompt": str(n), "model": "haiku"} for n in range(2)]}}
    done = pool.auto(TASK, model="opus")
    assert {pool.detail(task_id).task.options.model for task_id in done.task_ids} == {"opus"}


def test_a_task_that_continues_a_session_is_not_cut_and_nobody_is_asked(make: Make) -> None:
    pool, slot = make()
    slot.asleep = True
    done = pool.auto(TASK, session="name:talk")
    assert (done.route.route, done.route.task_id, slot.seen) == (Route.SINGLE, None, [done.id])


def test_a_routing_call_that_failed_still_gets_the_task_done(make: Make) -> None:
    pool, slot = make()
    slot.answer, slot.state = {}, TaskState.FAILED
    done = pool.auto(TASK)
    assert done.route.fallback
    assert pool.detail(done.id).prompt == TASK


@pytest.mark.parametrize("fields", [{"model": "--x"}, {"unknown": 1}, {"max_turns": 0}])
def test_options_that_make_no_sense_are_refused_before_anything_is_paid(make: Make, fields: dict[str, Any]) -> None:
    pool, slot = make()
    with pytest.raises(InvalidRequest):
        pool.auto(TASK, **fields)
    assert slot.seen == []


def test_what_is_handed_in_on_behalf_of_somebody_is_theirs(make: Make) -> None:
    pool, slot = make()
    slot.answer = {"structured_output": CHAIN}
    done = pool.on_behalf_of(Submitter(name="ada", kind="mcp")).auto(TASK)
    assert {pool.get(task_id).submitter.name for task_id in [*slot.seen[:1], *done.task_ids]} == {"ada"}
    assert pool.submitter.name != "ada"
