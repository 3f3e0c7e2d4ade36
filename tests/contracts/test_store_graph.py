from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.chain import Kept, plan_chain
from claude_pool.errors import Conflict, NotFound, PoolDrained, StoreFull
from claude_pool.ids import new_id
from claude_pool.models.graph import Graph, StepPlan, TaskNode
from claude_pool.models.task import ErrorCode, ParkedFor, TaskError, TaskState
from claude_pool.store.base import Claim, RefusedClaim
from claude_pool.store.redis import RedisStore
from claude_pool.testing.contracts import everything
from claude_pool.testing.graphs import Chained, done, fan, named, site
from claude_pool.testing.hands import Hand
from claude_pool.testing.redis_server import RedisServer

S = TaskState


MakeChain = Callable[..., Chained]


@pytest.fixture
def chain(store: RedisStore) -> MakeChain:
    def make(*steps: dict[str, Any], **options: Any) -> Chained:
        return Chained(store, steps, **options)

    return make


# -- chains


def test_only_the_first_step_of_a_new_chain_is_ready_and_its_bell_carries_the_next(chain: MakeChain) -> None:
    made = chain(*named("a", "b", "c"))
    assert made.state is S.RUNNING
    assert made.states() == ["pending", "blocked", "blocked"]
    (bell,) = made.bells
    assert (bell.task_id, bell.then) == (made.ids[0], made.ids[1:])


def test_the_end_of_a_step_makes_the_next_ready_in_the_same_step_and_the_last_ends_the_chain(chain: MakeChain) -> None:
    made = chain(*named("a", "b"))
    (bell,) = made.finish(made.ids[0], cost_usd=0.25)
    assert bell.task_id == made.ids[1]
    assert made.states() == ["completed", "pending"]
    assert made.finish(made.ids[1], cost_usd=0.5) == ()
    whole = made.whole
    assert (whole.state, whole.cost_usd, whole.ended, whole.error) == (S.COMPLETED, 0.75, 2, None)


def test_a_finish_repeated_after_a_lost_answer_moves_the_chain_once(store: RedisStore, chain: MakeChain) -> None:
    made = chain(*named("a", "b", "c"))
    claim = made.hand.run(made.ids[0])
    first, again = (made.hand.finish(claim, "completed") for _ in range(2))
    assert first == again
    assert made.states() == ["completed", "pending", "blocked"]
    assert sum(event.verb == "unblock" for event in everything(store)) == 2


def test_a_failed_step_ends_the_chain_and_the_rest_is_skipped(chain: MakeChain) -> None:
    made = chain(*named("a", "b", "c"))
    made.finish(made.ids[0])
    assert made.finish(made.ids[1], "failed") == ()
    whole = made.whole
    assert whole.state is S.FAILED
    assert whole.error is not None
    assert whole.error.message == "b: went wrong"
    assert made.states() == ["completed", "failed", "skipped"]


@pytest.mark.parametrize(("then", "previous"), [("skip", 0), ("continue", 1)])
def test_a_failed_step_may_be_passed_over(store: RedisStore, chain: MakeChain, then: str, previous: int) -> None:
    policy = {"failure_policy": {"then": then}}
    made = chain(*named("a"), *named("b", **policy), {"name": "c", "prompt": "{previous_output}"})
    made.finish(made.ids[0])
    (bell,) = made.finish(made.ids[1], "failed")
    assert bell.task_id == made.ids[2]
    claim = made.hand.claim(made.ids[2])
    assert claim.plan is not None
    assert store.graph.inputs(claim.plan).previous == made.ids[previous]


def test_a_step_whose_condition_does_not_hold_is_skipped_and_the_chain_goes_on(chain: MakeChain) -> None:
    made = chain(*named("a", "b"))
    claim = made.hand.claim(made.ids[0])
    error = TaskError(code=ErrorCode.SKIPPED, message="no need")
    task = made.hand.finish(claim, "cancelled", error=error, skipped=True)
    assert task is not None
    assert task.skipped
    assert made.states() == ["skipped", "pending"]
    made.finish(made.ids[1])
    assert made.whole.state is S.COMPLETED


def test_a_step_sees_arguments_values_and_the_last_output(store: RedisStore, chain: MakeChain) -> None:
    made = chain(
        {"name": "a", "prompt": "x {args.issue}", "output_vars": {"n": "n"}},
        {"name": "b", "prompt": "{previous_output} {steps.a.n} {args.issue}"},
        args={"issue": "42"},
    )
    made.finish(made.ids[0], output="done", vars={"n": [1, "two"]})
    claim = made.hand.claim(made.ids[1])
    assert claim.plan is not None
    inputs = store.graph.inputs(claim.plan)
    assert inputs.args == {"issue": "42"}
    assert inputs.previous == made.ids[0]
    (outcome,) = inputs.outcomes[made.ids[0]]
    assert outcome.vars == {"n": [1, "two"]}
    assert outcome.result is not None
    assert outcome.result.output == "done"


def test_a_step_may_continue_the_session_of_the_one_before(chain: MakeChain) -> None:
    made = chain(*named("a"), *named("b", session="previous"))
    (bell,) = made.finish(made.ids[0], session_id="s-1", session_cost_usd=0.5)
    claim = made.hand.claim(made.ids[1])
    assert (claim.kind, claim.resume_session_id, claim.session_cost_usd, claim.number) == (
        "continuation",
        "s-1",
        0.5,
        1,
    )
    assert bell.queue == "tasks"  # no node of that name is registered


def test_notes_of_failures_reach_the_next_run(chain: MakeChain) -> None:
    made = chain(*named("a"))
    made.finish(made.ids[0], "pending", next_kind="attempt", counts_as="attempt", note={"failures": 1, "error": "boom"})
    claim = made.hand.claim(made.ids[0])
    assert (claim.note.failures, claim.note.error, claim.kind) == (1, "boom", "attempt")


def test_a_chain_pays_from_its_own_budget_and_waits_when_it_is_used_up(store: RedisStore, chain: MakeChain) -> None:
    made = chain(*named("a", "b", max_budget_usd=0.6), budget_usd=1)
    made.finish(made.ids[0], cost_usd=0.5)
    assert made.hand.try_claim(made.ids[1]) is RefusedClaim.NO_BUDGET
    task = store.tasks.get(made.ids[1])
    assert (task.state, task.parked_for) == (S.PARKED, ParkedFor.BUDGET)
    assert made.whole.waiting is S.PARKED
    store.pool.set_limit(made.id, 2)
    assert [bell.task_id for bell in store.pool.release_budget(made.id)] == [made.ids[1]]
    assert made.whole.waiting is None
    made.finish(made.ids[1], cost_usd=0.25)
    assert (made.whole.state, made.whole.cost_usd) == (S.COMPLETED, 0.75)
    assert store.pool.status().spent_usd == 0.75


def test_a_chain_that_is_cancelled_stops_what_runs_and_really_ends_cancelled(
    store: RedisStore, chain: MakeChain
) -> None:
    made = chain(*named("a", "b", "c"))
    claim = made.hand.run(made.ids[0])
    store.graph.cancel(made.id, reason="enough")
    assert made.whole.state is S.RUNNING
    assert store.tasks.get(made.ids[0]).cancel_requested == "enough"
    made.hand.finish(claim, "completed", cost_usd=0.25)
    assert made.states() == ["cancelled", "skipped", "skipped"]
    whole = made.whole
    assert (whole.state, whole.cost_usd) == (S.CANCELLED, 0.25)


def test_a_cancel_after_the_step_lets_it_end(store: RedisStore, chain: MakeChain) -> None:
    made = chain(*named("a", "b"))
    claim = made.hand.run(made.ids[0])
    store.graph.cancel(made.id, reason="enough", after_step=True)
    assert store.tasks.get(made.ids[0]).cancel_requested is None
    made.hand.finish(claim, "completed")
    assert made.states() == ["completed", "skipped"]
    assert made.whole.state is S.CANCELLED


def test_a_cancel_after_the_last_step_wins_as_well(store: RedisStore, chain: MakeChain) -> None:
    made = chain(*named("a"))
    claim = made.hand.run(made.ids[0])
    store.graph.cancel(made.id, reason="enough", after_step=True)
    made.hand.finish(claim, "completed")
    assert made.whole.state is S.CANCELLED


def test_a_cancel_in_a_retry_pause_ends_the_chain_at_once(store: RedisStore, chain: MakeChain) -> None:
    made = chain(*named("a", "b"))
    made.finish(made.ids[0], "parked", parked_for="retry", delay_ms=3_600_000)
    state, bells = store.graph.cancel(made.id, reason="enough")
    assert (state, bells) == (S.CANCELLED, [])
    assert made.states() == ["cancelled", "skipped"]
    assert store.house.due() == []


def test_a_step_that_is_cancelled_by_itself_ends_its_chain(store: RedisStore, chain: MakeChain) -> None:
    made = chain(*named("a", "b"))
    store.tasks.cancel(made.ids[0], reason="not this")
    assert made.states() == ["cancelled", "skipped"]
    assert made.whole.state is S.CANCELLED


def test_a_later_step_that_is_cancelled_ends_the_chain_when_its_turn_comes(store: RedisStore, chain: MakeChain) -> None:
    made = chain(*named("a", "b", "c"))
    store.tasks.cancel(made.ids[1], reason="not that one")
    assert made.whole.state is S.RUNNING
    assert made.finish(made.ids[0]) == ()
    assert made.states() == ["completed", "cancelled", "skipped"]
    assert made.whole.state is S.CANCELLED


def test_a_lost_step_moves_its_chain_as_its_policy_says(store: RedisStore, chain: MakeChain) -> None:
    made = chain(*named("a", "b", on_lost="fail"))
    made.hand.lose(made.ids[0])
    assert made.whole.state is S.FAILED
    on = chain(*named("a", on_lost="fail", failure_policy={"then": "continue"}), *named("b"))
    on.hand.lose(on.ids[0])
    assert on.states() == ["failed", "pending"]
    assert [bell.task_id for bell in store.house.unrung()] == [on.ids[1]]


def test_a_chain_waits_with_its_step_for_a_review_and_goes_on_with_it(store: RedisStore, chain: MakeChain) -> None:
    made = chain(*named("a", gate="review"), *named("b"))
    made.finish(made.ids[0], "pending_review")
    assert made.whole.waiting is S.PENDING_REVIEW
    task = store.tasks.get(made.ids[0])
    decided = store.reviews.approve(task.id, run_id=task.run_id or "", who="w", by="me")
    assert [bell.task_id for bell in decided.bells] == [made.ids[1]]
    assert made.whole.waiting is None


def test_a_chain_over_its_time_is_stopped_and_has_failed(store: RedisStore, chain: MakeChain) -> None:
    made = chain(*named("a", "b"), timeout_s=0.001)
    claim = made.hand.run(made.ids[0])
    while not store.graph.tend().ids:
        pass
    made.hand.finish(claim, "completed")
    whole = made.whole
    assert whole.state is S.FAILED
    assert whole.error is not None
    assert whole.error.code is ErrorCode.TIMEOUT
    assert made.states() == ["cancelled", "skipped"]


def test_a_failed_chain_is_resumed_from_its_failed_step_with_earlier_outputs(
    store: RedisStore, chain: MakeChain
) -> None:
    made = chain(*named("a", "b"), {"name": "c", "prompt": "{steps.a.output}"})
    made.finish(made.ids[0], cost_usd=0.5)
    made.finish(made.ids[1], "failed", cost_usd=0.25)
    again = plan_chain(made.id, made.steps, made.options, site=site(), kept=[Kept(id=made.ids[0], source=made.ids[0])])
    (bell,) = store.graph.resume(made.id, Graph(nodes=tuple(again)), start=1)
    first, second, third = made.whole.children
    assert (first, bell.task_id) == (made.ids[0], second)
    assert made.states() == ["completed", "pending", "blocked"]
    assert made.whole.state is S.RUNNING
    made.finish(second)
    claim = made.hand.run(third)
    assert claim.plan is not None
    assert store.graph.inputs(claim.plan).outcomes[first][0].state is S.COMPLETED
    made.hand.finish(claim, "completed", cost_usd=0.25)
    assert (made.whole.state, made.whole.cost_usd) == (S.COMPLETED, 1.0)
    assert store.tasks.get(made.ids[1]).state is S.FAILED


def test_a_chain_that_runs_or_is_done_can_not_be_resumed(store: RedisStore, chain: MakeChain) -> None:
    made = chain(*named("a"))
    with pytest.raises(Conflict, match="is running"):
        store.graph.resume(made.id, made.graph, start=0)
    made.finish(made.ids[0])
    with pytest.raises(Conflict, match="is completed"):
        store.graph.resume(made.id, made.graph, start=0)


def test_a_chain_of_500_steps_takes_as_many_bytes_a_step_as_one_of_50(real_store: RedisStore) -> None:
    def size(number: int) -> float:
        items = [*named("s0"), *({"name": f"s{n}", "prompt": "{previous_output}"} for n in range(1, number))]
        made = Chained(real_store, items)
        raw = real_store.client._quick
        pool = real_store.client._pool
        keys = [f"{pool}:chain:{made.id}", f"{pool}:kids:{made.id}", *(f"{pool}:task:{id_}" for id_ in made.ids)]
        return sum(raw.memory_usage(key) for key in keys) / number

    assert size(500) < 1.2 * size(50)


def test_a_drained_pool_takes_no_chain(store: RedisStore, chain: MakeChain) -> None:
    store.pool.set_accepting(accepting=False)
    with pytest.raises(PoolDrained):
        chain(*named("a"))
    assert store.graph.list() == []
    assert store.pool.status().blocked == 0


def test_what_was_never_launched_is_dropped(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_pool.store.graph.LAUNCH_MS", 0)
    monkeypatch.setattr("claude_pool.store.graph.RedisGraphs._launch", lambda *_: (S.BLOCKED, []))
    made = Chained(store, named("a", "b"))
    assert store.graph.tend().ids == (made.id,)
    assert made.states() == ["skipped", "skipped"]
    assert made.whole.state is S.CANCELLED


def test_there_is_no_chain_of_an_unknown_name(store: RedisStore) -> None:
    for call in (store.graph.get, lambda id_: store.graph.cancel(id_, reason="x")):
        with pytest.raises(NotFound, match="chain 'c-0000000000'"):
            call("c-0000000000")
    assert store.graph.get_many(["f-0000000000"]) == {}


def test_chains_and_fan_outs_are_listed_newest_first_without_their_parts(store: RedisStore, chain: MakeChain) -> None:
    first = chain({"name": "a", "fan_out": {"branches": ["x"]}})
    second, _, _ = fan(store, 2)
    assert [whole.id for whole in store.graph.list()] == [second, first.id]
    assert [whole.id for whole in store.graph.list(after=second)] == [first.id]


def test_an_old_chain_is_forgotten_with_all_its_steps_and_not_before(store: RedisStore, chain: MakeChain) -> None:
    made = chain(*named("a", "b"))
    made.finish(made.ids[0])
    later = store.house.now_ms() + 10_000
    assert store.house.forget(older_than_ms=later) == 0
    assert store.tasks.get(made.ids[0]).state is S.COMPLETED
    made.finish(made.ids[1])
    assert store.house.forget(older_than_ms=later + 10_000) == 2
    with pytest.raises(NotFound):
        store.graph.get(made.id)


def test_every_change_of_a_task_in_a_graph_is_one_event_and_parents_have_their_own(
    store: RedisStore, chain: MakeChain
) -> None:
    made = chain(*named("a", "b"))
    made.finish(made.ids[0])
    made.finish(made.ids[1], "failed")
    verbs = {id_: [event.verb for event in everything(store) if event.subject == id_] for id_ in (made.id, made.ids[1])}
    assert verbs[made.ids[1]] == ["submit", "unblock", "claim", "start", "fail"]
    assert verbs[made.id] == ["submit", "start", "step", "step", "fail"]
    assert made.whole.event_id == [event.id for event in everything(store) if event.subject == made.id][-1]


# -- the server


@pytest.mark.redis
def test_a_restart_in_the_middle_of_a_join_loses_nothing_and_joins_once(
    private_redis: RedisServer, make_bench: Callable[..., Any]
) -> None:
    store = make_bench(private_redis).store
    fan_id, ids, _ = fan(store, 20, gather="sum up")
    hand = Hand(store)
    for number, task_id in enumerate(ids):
        claim = hand.run(task_id)
        if number in {7, 19}:
            private_redis.restart()
        hand.finish(claim, "completed")
    whole = store.graph.get(fan_id)
    assert (whole.ok, whole.gathering) == (20, True)
    done(hand, whole.gather or "")
    assert store.graph.get(fan_id).state is S.COMPLETED
    assert sum(event.subject == whole.gather and event.verb == "unblock" for event in everything(store)) == 1


@pytest.mark.redis
def test_a_full_store_takes_no_chain_and_yet_ends_those_that_run(real_bench: Any) -> None:
    store = real_bench.store
    made = Chained(store, named("a", "b"))
    claim = made.hand.run(made.ids[0])
    with real_bench.full():
        with pytest.raises(StoreFull):
            store.graph.submit(Graph(nodes=tuple(plan_chain(new_id("c"), made.steps, made.options, site=site()))))
        made.hand.finish(claim, "completed")
        assert made.states() == ["completed", "pending"]
        store.graph.cancel(made.id, reason="full")
    assert made.whole.state is S.CANCELLED


def test_plans_travel_whole(store: RedisStore, chain: MakeChain) -> None:
    policy = {"retries": 2, "escalate_model": "opus", "recovery_prompt": "mend {error}", "then": "continue"}
    made = chain({"name": "a", "prompt": "x", "gate": "make", "failure_policy": policy, "output_vars": {"v": "a.b"}})
    claim = made.hand.claim(made.ids[0])
    assert isinstance(claim, Claim)
    node = made.graph.nodes[1]
    assert isinstance(node, TaskNode)
    assert claim.plan == node.plan
    assert json.loads(claim.plan.model_dump_json(exclude_defaults=True))["policy"]["retries"] == 2
    assert store.graph.inputs(StepPlan(name="alone")).outcomes == {}
