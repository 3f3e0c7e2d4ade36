from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.chain import plan_chain
from claude_pool.fanout import Site
from claude_pool.ids import new_id
from claude_pool.models.chain import ChainOptions, ChainStep
from claude_pool.models.graph import Graph, TaskNode
from claude_pool.models.task import ErrorCode, TaskError, TaskState
from claude_pool.store.base import RefusedClaim
from claude_pool.store.redis import RedisStore
from claude_pool.testing.contracts import everything
from claude_pool.testing.graphs import Chained, done, fan, named, site
from claude_pool.testing.hands import Hand

S = TaskState


MakeChain = Callable[..., Chained]


@pytest.fixture
def chain(store: RedisStore) -> MakeChain:
    def make(*steps: dict[str, Any], **options: Any) -> Chained:
        return Chained(store, steps, **options)

    return make


# -- fan-outs


def test_every_branch_is_ready_at_once_and_the_last_one_ends_it(store: RedisStore, hand: Hand) -> None:
    fan_id, ids, bells = fan(store, 3)
    assert [bell.task_id for bell in bells] == list(ids)
    assert {bell.group for bell in bells} == {fan_id}
    for task_id in ids:
        done(hand, task_id, cost_usd=0.25)
    whole = store.graph.get(fan_id)
    assert (whole.state, whole.ok, whole.cost_usd, whole.children) == (S.COMPLETED, 3, 0.75, ids)


def test_policy_all_lets_everybody_finish_and_has_failed_when_one_did(store: RedisStore, hand: Hand) -> None:
    fan_id, (one, two, three), _ = fan(store, 3)
    done(hand, one, "failed")
    assert store.graph.get(fan_id).state is S.RUNNING
    done(hand, two)
    done(hand, three)
    whole = store.graph.get(fan_id)
    assert (whole.state, whole.ok, whole.bad) == (S.FAILED, 2, 1)
    assert whole.error is not None
    assert whole.error.message == "1 of 3 branches did not complete"
    assert store.graph.outcomes([two])[two].result is not None


def test_fail_fast_stops_the_rest_and_keeps_what_was_done(store: RedisStore, hand: Hand) -> None:
    fan_id, (one, two, three, four), _ = fan(store, 4, policy="fail_fast")
    other = Hand(store, 1)
    done(hand, one)
    running = other.run(two)
    done(hand, three, "failed")
    assert store.tasks.get(four).skipped
    assert store.tasks.get(two).cancel_requested
    assert store.graph.get(fan_id).state is S.RUNNING
    other.finish(running, "cancelled", output="half")
    assert store.graph.get(fan_id).state is S.FAILED
    assert [outcome.word for outcome in store.graph.outcomes([one, two, three, four]).values()] == [
        "completed", "cancelled", "failed", "skipped",
    ]  # fmt: skip
    result = store.graph.outcomes([two])[two].result
    assert result is not None
    assert result.output == "half"


def test_a_quorum_ends_it_as_soon_as_enough_completed(store: RedisStore, hand: Hand) -> None:
    fan_id, (one, two, three, four), _ = fan(store, 4, policy="quorum(2)")
    done(hand, one, "failed")
    done(hand, two)
    done(hand, three)
    assert store.graph.get(fan_id).state is S.COMPLETED
    assert store.tasks.get(four).skipped


def test_a_quorum_that_can_not_be_reached_any_more_ends_it_as_well(store: RedisStore, hand: Hand) -> None:
    fan_id, (one, two, three), _ = fan(store, 3, policy="quorum(2)")
    done(hand, one, "failed")
    done(hand, two, "failed")
    assert store.graph.get(fan_id).state is S.FAILED
    assert store.tasks.get(three).skipped


def test_no_more_branches_are_ready_than_the_cap_allows(store: RedisStore, hand: Hand) -> None:
    fan_id, ids, bells = fan(store, 5, max_parallel=2)
    assert [bell.task_id for bell in bells] == list(ids[:2])
    rung = [bell.task_id for bell in bells]
    for at in range(5):
        assert store.graph.get(fan_id).open == min(2, 5 - at)
        rung += [bell.task_id for bell in done(hand, rung[at])]
    assert rung == list(ids)
    assert store.graph.get(fan_id).state is S.COMPLETED


def test_a_branch_that_is_cancelled_makes_room_for_the_next(store: RedisStore) -> None:
    fan_id, (one, two, three), _ = fan(store, 3, max_parallel=1)
    store.tasks.cancel(two, reason="before its turn")
    store.tasks.cancel(one, reason="not this")
    assert store.tasks.get(three).state is S.PENDING
    whole = store.graph.get(fan_id)
    assert (whole.open, whole.bad) == (1, 2)


def test_the_gather_is_ready_once_when_the_last_branch_ends_whatever_its_outcome(store: RedisStore, hand: Hand) -> None:
    fan_id, (one, two), _ = fan(store, 2, gather="sum up")
    gather = store.graph.get(fan_id).gather or ""
    assert done(hand, one) == ()
    assert store.tasks.get(gather).state is S.BLOCKED
    (bell,) = done(hand, two, "failed")
    assert bell.task_id == gather
    claim = hand.run(gather)
    assert claim.plan is not None
    assert [outcome.word for outcome in store.graph.inputs(claim.plan).outcomes[fan_id]] == ["completed", "failed"]
    hand.finish(claim, "completed")
    assert store.graph.get(fan_id).state is S.FAILED
    assert sum(event.subject == gather and event.verb == "unblock" for event in everything(store)) == 1


def test_a_gather_that_fails_makes_the_whole_fail(store: RedisStore, hand: Hand) -> None:
    fan_id, (one,), _ = fan(store, 1, gather="sum up")
    done(hand, one)
    done(hand, store.graph.get(fan_id).gather or "", "failed", error=TaskError(code=ErrorCode.TIMEOUT, message="slow"))
    whole = store.graph.get(fan_id)
    assert whole.state is S.FAILED
    assert whole.error == TaskError(code=ErrorCode.TIMEOUT, message="gather: slow")


def test_a_cancelled_fan_out_skips_what_waits_and_its_gather(store: RedisStore, hand: Hand) -> None:
    fan_id, (one, two, three), _ = fan(store, 3, gather="sum up")
    done(hand, one)
    running = hand.run(two)
    store.graph.cancel(fan_id, reason="enough")
    assert store.tasks.get(three).skipped
    hand.finish(running, "completed")
    whole = store.graph.get(fan_id)
    assert whole.state is S.CANCELLED
    assert store.tasks.get(whole.gather or "").skipped
    assert store.graph.outcomes([one])[one].state is S.COMPLETED


def test_a_fan_out_waits_when_all_that_is_left_of_it_waits(store: RedisStore, hand: Hand) -> None:
    fan_id, (one, two), _ = fan(store, 2)
    done(hand, one, "pending_review")
    assert store.graph.get(fan_id).waiting is None
    done(hand, two)
    assert store.graph.get(fan_id).waiting is S.PENDING_REVIEW
    store.tasks.cancel(one, reason="no")
    assert store.graph.get(fan_id).waiting is None


def test_one_poison_branch_among_a_thousand_costs_the_others_nothing(store: RedisStore) -> None:
    fan_id, ids, bells = fan(store, 1000, gather="sum up")
    assert len(bells) == 1000
    hand = Hand(store)
    poison = ids[500]
    for task_id in ids:
        done(hand, task_id, "failed" if task_id == poison else "completed")
    whole = store.graph.get(fan_id)
    assert (whole.ok, whole.bad, whole.gathering) == (999, 1, True)
    assert store.tasks.get(whole.gather or "").state is S.PENDING


def test_one_poison_branch_among_a_thousand_stops_the_others_when_it_shall(store: RedisStore) -> None:
    fan_id, ids, _ = fan(store, 1500, policy="fail_fast")
    done(Hand(store), ids[3], "failed")
    while store.graph.get(fan_id).state is S.RUNNING:
        assert store.graph.tend().ids == (fan_id,)
    assert store.graph.get(fan_id).state is S.FAILED
    assert store.pool.status().cancelled == 1499
    assert store.pool.status().pending == 0


def test_a_branch_of_a_fan_out_that_is_over_is_never_claimed(store: RedisStore) -> None:
    _, ids, _ = fan(store, 1500, policy="fail_fast")
    hand = Hand(store)
    done(hand, ids[0], "failed")
    last = ids[-1]
    assert store.tasks.get(last).state is S.PENDING
    assert hand.try_claim(last) is RefusedClaim.NOT_PENDING
    assert store.tasks.get(last).skipped


# -- fan-outs within chains


def nested(chain: MakeChain, **fan_fields: Any) -> Chained:
    return chain(
        *named("plan"),
        {"name": "look", "fan_out": {"branches": ["one {previous_output}", "two"], **fan_fields}},
        {"name": "end", "prompt": "{steps.look.output}"},
    )


def branches_of(graph: Graph) -> list[TaskNode]:
    fan_id = next(node.id for node in graph.nodes[1:] if node.id.startswith("f-"))
    return [node for node in graph.nodes if isinstance(node, TaskNode) and node.parent == fan_id]


def test_a_step_may_be_a_fan_out_and_its_gather_speaks_for_it(store: RedisStore, chain: MakeChain) -> None:
    made = nested(chain, gather="sum up")
    one, two, gather = (node.id for node in branches_of(made.graph))
    bells = made.finish(made.ids[0])
    assert [bell.task_id for bell in bells] == [one, two]
    made.finish(one)
    (bell,) = made.finish(two)
    assert bell.task_id == gather
    (bell,) = made.finish(gather, output="all in all")
    assert bell.task_id == made.ids[2]
    claim = made.hand.run(made.ids[2])
    assert claim.plan is not None
    (outcome,) = store.graph.inputs(claim.plan).outcomes[gather]
    assert outcome.result is not None
    assert outcome.result.output == "all in all"
    made.hand.finish(claim, "completed")
    assert made.whole.state is S.COMPLETED


def test_a_fan_out_that_fails_ends_its_chain(chain: MakeChain) -> None:
    made = nested(chain)
    one, two = (node.id for node in branches_of(made.graph))
    made.finish(made.ids[0])
    made.finish(one)
    made.finish(two, "failed")
    assert made.states() == ["completed", "failed", "skipped"]
    assert made.whole.state is S.FAILED


def test_a_cancelled_chain_ends_the_fan_out_that_it_is_at(store: RedisStore, chain: MakeChain) -> None:
    made = nested(chain, gather="sum up")
    made.finish(made.ids[0])
    store.graph.cancel(made.id, reason="enough")
    assert made.whole.state is S.CANCELLED
    assert made.states() == ["completed", "cancelled", "skipped"]
    assert all(store.tasks.get(node.id).skipped for node in branches_of(made.graph))


def test_a_review_in_a_branch_keeps_the_chain_waiting(chain: MakeChain) -> None:
    made = nested(chain)
    one, two = (node.id for node in branches_of(made.graph))
    made.finish(made.ids[0])
    made.finish(one)
    made.finish(two, "pending_review")
    assert made.whole.waiting is S.PENDING_REVIEW


def test_a_fan_out_within_a_chain_spends_the_chains_money(store: RedisStore, chain: MakeChain) -> None:
    made = chain({"name": "a", "fan_out": {"branches": ["x", "y"], "budget_usd": 5}}, budget_usd=1)
    one, two = (node.id for node in branches_of(made.graph))
    made.finish(one, cost_usd=0.25)
    made.finish(two, cost_usd=0.5)
    assert (made.whole.cost_usd, store.graph.get(made.ids[0]).cost_usd) == (0.75, 0.75)
    assert store.pool.status().spent_usd == 0.75


def test_branches_may_be_chains(store: RedisStore, hand: Hand) -> None:
    from claude_pool.fanout import plan_group  # noqa: PLC0415 - read only here
    from claude_pool.models.graph import ParentNode  # noqa: PLC0415 - read only here

    fan_id = new_id("f")
    steps = [ChainStep(name="a", prompt="x"), ChainStep(name="b", prompt="{previous_output}")]

    def plan(chain_id: str, label: str, at: Site) -> Any:
        return plan_chain(chain_id, steps, ChainOptions(), site=at, parent=fan_id, name=label)

    graph = plan_group(fan_id, ["one", "two"], plan, site(), ParentNode(id=fan_id, total=2))
    _, bells = store.graph.submit(graph)
    assert len(bells) == 2
    assert all(len(bell.then) == 1 for bell in bells)
    for bell in bells:
        (following,) = done(hand, bell.task_id, cost_usd=0.25)
        done(hand, following.task_id)
    whole = store.graph.get(fan_id)
    assert (whole.state, whole.cost_usd) == (S.COMPLETED, 0.5)
    assert [one.name for one in store.graph.get_many(whole.children).values()] == ["one", "two"]
