from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.errors import InvalidRequest, NotFound
from claude_pool.models.task import ParkedFor, TaskState
from claude_pool.store.base import RefusedClaim
from claude_pool.store.redis import RedisStore
from claude_pool.testing.hands import Hand


def books(store: RedisStore) -> tuple[float, float]:
    status = store.pool.status()
    return status.reserved_usd, status.spent_usd


def test_a_claim_reserves_the_tasks_cap_and_a_finish_settles_it(store: RedisStore, hand: Hand) -> None:
    store.pool.set_limit("pool", 10)
    claim = hand.run(hand.submit(max_budget_usd=2.5))
    assert claim.cap_usd == store.tasks.get(claim.task.id).reserved_usd == 2.5
    assert books(store) == (2.5, 0)
    hand.finish(claim, "completed", cost_usd=0.7)
    assert books(store) == (0, 0.7)
    assert store.pool.status().budget_usd == 10


def test_a_task_without_a_limit_anywhere_has_no_cap(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit())
    assert claim.cap_usd is None
    hand.finish(claim, "failed", cost_usd=0.3)
    assert books(store) == (0, 0.3)


def test_the_settings_give_a_task_its_cap_if_it_has_none(make_bench: Callable[..., Any]) -> None:
    hand = Hand(make_bench(task_budget_usd=0.4).store)
    assert hand.claim(hand.submit()).cap_usd == 0.4
    assert hand.claim(hand.submit(max_budget_usd=3)).cap_usd == 3


def test_a_task_without_a_cap_in_a_limited_pool_gets_an_equal_part_per_idle_slot(store: RedisStore) -> None:
    store.pool.set_limit("pool", 9)
    hands = [Hand(store, number) for number in range(3)]
    claims = [hand.run(hand.submit()) for hand in hands]
    assert [claim.cap_usd for claim in claims] == [3, 3, 3]
    hands[0].finish(claims[0], "completed", cost_usd=1)
    assert hands[0].claim(hands[0].submit()).cap_usd == 2


def test_what_does_not_fit_is_parked_and_comes_back_when_money_is_free(store: RedisStore, hand: Hand) -> None:
    store.pool.set_limit("pool", 10)
    first, second = hand.submit(max_budget_usd=6), hand.submit(max_budget_usd=6)
    claim = hand.run(first)
    assert hand.try_claim(second) is RefusedClaim.NO_BUDGET
    task = store.tasks.get(second)
    assert (task.state, task.parked_for, task.until_ms) == (TaskState.PARKED, ParkedFor.BUDGET, None)
    assert task.waits_for_somebody
    assert store.house.due() == []
    hand.finish(claim, "completed", cost_usd=1)
    assert [bell.task_id for bell in store.house.due()] == [second]
    assert hand.claim(second).cap_usd == 6


def test_the_last_micro_dollar_may_be_reserved_and_not_one_more(store: RedisStore, hand: Hand) -> None:
    store.pool.set_limit("pool", 0.6)
    hand.claim(hand.submit(max_budget_usd=0.4))
    hand.claim(hand.submit(max_budget_usd=0.2))
    assert hand.try_claim(hand.submit(max_budget_usd=0.000001)) is RefusedClaim.NO_BUDGET


def test_money_that_is_not_enough_wakes_nobody(store: RedisStore, hand: Hand) -> None:
    store.pool.set_limit("pool", 10)
    claim = hand.run(hand.submit(max_budget_usd=6))
    hand.try_claim(hand.submit(max_budget_usd=6))
    hand.finish(claim, "completed", cost_usd=5)
    assert store.house.due() == []


def test_a_higher_limit_wakes_as_many_as_fit(store: RedisStore, hand: Hand) -> None:
    store.pool.set_limit("pool", 1)
    ids = [hand.submit(max_budget_usd=2) for _ in range(4)]
    for task_id in ids:
        assert hand.try_claim(task_id) is RefusedClaim.NO_BUDGET
    store.pool.set_limit("pool", 5)
    assert {bell.task_id for bell in store.house.due()} == set(ids[:2])


def test_released_budget_rings_at_once_and_is_bounded(store: RedisStore, hand: Hand) -> None:
    store.pool.set_limit("pool", 0)
    ids = [hand.submit(max_budget_usd=1) for _ in range(3)]
    for task_id in ids:
        hand.try_claim(task_id)
    assert store.pool.release_budget("pool") == []
    store.pool.set_limit("pool", None)
    assert [bell.task_id for bell in store.pool.release_budget("pool", limit=2)] == ids[:2]
    assert [bell.task_id for bell in store.pool.release_budget("pool")] == ids[2:]
    assert store.pool.status().parked == 0


def test_a_pool_that_may_spend_nothing_starts_nothing(store: RedisStore, hand: Hand) -> None:
    store.pool.set_limit("pool", 0)
    assert hand.try_claim(hand.submit()) is RefusedClaim.NO_BUDGET


def test_the_next_run_of_a_task_gets_what_its_limit_has_left(store: RedisStore, hand: Hand) -> None:
    task_id = hand.submit(max_budget_usd=1)
    hand.finish(hand.run(task_id), "pending", cost_usd=0.75, session_id="s", session_cost_usd=0.75)
    assert hand.claim(task_id).cap_usd == 0.25


def test_a_task_that_spent_its_limit_waits_until_it_gets_more(store: RedisStore, hand: Hand) -> None:
    task_id = hand.submit(max_budget_usd=1)
    hand.finish(hand.run(task_id), "pending", cost_usd=1.25)
    assert hand.try_claim(task_id) is RefusedClaim.NO_BUDGET
    store.pool.set_limit(task_id, 2)
    assert [bell.task_id for bell in store.pool.release_budget(task_id)] == [task_id]
    assert hand.claim(task_id).cap_usd == 0.75


def test_spending_more_than_was_reserved_is_booked_and_stops_further_claims(store: RedisStore, hand: Hand) -> None:
    store.pool.set_limit("pool", 1)
    hand.finish(hand.run(hand.submit(max_budget_usd=0.5)), "completed", cost_usd=1.5)
    assert books(store) == (0, 1.5)
    assert hand.try_claim(hand.submit(max_budget_usd=0.01)) is RefusedClaim.NO_BUDGET


def test_sums_are_exact_where_floats_are_not(store: RedisStore, hand: Hand) -> None:
    for _ in range(30):
        hand.finish(hand.run(hand.submit()), "completed", cost_usd=0.1)
    assert books(store) == (0, 3.0)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), 1e12])
def test_what_is_no_limit_is_refused_by_name(store: RedisStore, amount: float) -> None:
    with pytest.raises(InvalidRequest, match="is no limit"):
        store.pool.set_limit("pool", amount)


def test_a_limit_for_no_task_is_not_found(store: RedisStore) -> None:
    with pytest.raises(NotFound, match="t-0000000000"):
        store.pool.set_limit("t-0000000000", 1)


def test_the_largest_limit_is_kept_exactly(store: RedisStore) -> None:
    store.pool.set_limit("pool", 999_999_999.999999)
    assert store.pool.status().budget_usd == 999_999_999.999999
