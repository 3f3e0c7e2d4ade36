from __future__ import annotations

from typing import Any

from claude_pool.models.task import ErrorCode, ParkedFor, TaskState
from claude_pool.models.verdict import BreakerMove
from claude_pool.store.base import Claim, RefusedClaim
from claude_pool.store.redis import RedisStore
from claude_pool.testing.contracts import everything
from claude_pool.testing.hands import Hand

LONG_AGO_MS = 1
LIMIT = BreakerMove(kind="open", code=ErrorCode.USAGE_LIMIT, message="5-hour limit")
SIGN_IN = BreakerMove(kind="open", code=ErrorCode.AUTH, message="Not logged in.")
FAILURE = BreakerMove(kind="failure", code=ErrorCode.OVERLOADED, message="529")


def shut(store: RedisStore, hand: Hand, move: BreakerMove, *, for_ms: int | None) -> str:
    """Let a run shut the breaker; the task that it was."""
    until_ms = None if for_ms is None else store.house.now_ms() + for_ms
    task_id = hand.submit()
    hand.finish(
        hand.run(task_id), "parked", parked_for="limit", until_ms=until_ms, breaker=move.evolve(until_ms=until_ms)
    )
    return task_id


def test_a_usage_limit_parks_everything_until_its_reset(store: RedisStore, hand: Hand) -> None:
    first = shut(store, hand, LIMIT, for_ms=3_600_000)
    second = hand.submit()
    assert hand.try_claim(second) is RefusedClaim.BREAKER
    waiting, limited = store.tasks.get(second), store.tasks.get(first)
    assert (waiting.state, waiting.parked_for) == (TaskState.PARKED, ParkedFor.LIMIT)
    assert waiting.until_ms == limited.until_ms
    (note,) = store.pool.status().notes
    assert note.startswith("The account is closed until 20")
    assert note.endswith(": 5-hour limit.")


def test_an_account_that_needs_a_person_stays_closed_until_it_is_opened(store: RedisStore, hand: Hand) -> None:
    first = shut(store, hand, SIGN_IN, for_ms=None)
    second = hand.submit()
    assert hand.try_claim(second) is RefusedClaim.BREAKER
    assert store.tasks.get(second).parked_for is ParkedFor.BREAKER
    assert store.tasks.get(second).waits_for_somebody
    assert store.pool.status().notes == ("The account is closed until somebody acts: Not logged in.",)
    assert store.pool.close_breaker()
    assert {bell.task_id for bell in store.house.due()} == {first, second}
    assert isinstance(hand.try_claim(second), Claim)
    assert not store.pool.close_breaker()


def test_when_its_time_has_come_exactly_one_run_goes_first(store: RedisStore) -> None:
    hands = [Hand(store, number) for number in range(3)]
    shut(store, hands[0], LIMIT, for_ms=-1)
    ids = [hands[0].submit() for _ in hands]
    answers = [hand.try_claim(task_id) for hand, task_id in zip(hands, ids, strict=True)]
    assert isinstance(answers[0], Claim)
    assert answers[1:] == [RefusedClaim.BREAKER] * 2
    assert store.tasks.get(ids[1]).until_ms is not None
    assert "being tried" in store.pool.status().notes[0]


def test_a_probe_that_ends_well_calls_everybody(store: RedisStore, hand: Hand) -> None:
    shut(store, hand, LIMIT, for_ms=-1)
    probe, waiting = hand.submit(), hand.submit()
    claim = hand.run(probe)
    hand.try_claim(waiting)
    hand.finish(claim, "completed")
    assert waiting in {bell.task_id for bell in store.house.due()}
    assert store.pool.status().notes == ()
    assert [event.verb for event in everything(store) if event.subject == "account:default"] == ["open", "close"]


def test_a_probe_that_fails_again_closes_the_door_again(store: RedisStore, hand: Hand) -> None:
    shut(store, hand, LIMIT, for_ms=-1)
    shut(store, hand, LIMIT, for_ms=3_600_000)
    assert hand.try_claim(hand.submit()) is RefusedClaim.BREAKER


def test_a_probe_that_is_lost_or_given_back_makes_room_for_another(store: RedisStore, hand: Hand) -> None:
    shut(store, hand, LIMIT, for_ms=-1)
    hand.lose(hand.submit())
    claim = hand.claim(hand.submit())
    store.tasks.release(claim.task.id, claim.run_id, reason="no workspace")
    assert isinstance(hand.try_claim(hand.submit()), Claim)


def test_a_run_that_began_before_proves_nothing_about_a_closed_account(bench: Any, hand: Hand) -> None:
    store = bench.store
    early = hand.run(hand.submit())
    bench.raw.hset(bench.key("task", early.task.id), "claimed_ms", LONG_AGO_MS)
    shut(store, hand, LIMIT, for_ms=3_600_000)
    hand.finish(early, "completed", breaker=BreakerMove(kind="close"))
    assert hand.try_claim(hand.submit()) is RefusedClaim.BREAKER


def test_five_failures_in_a_minute_open_it_and_fewer_do_not(store: RedisStore, hand: Hand) -> None:
    claims = [hand.run(hand.submit()) for _ in range(5)]
    for claim in claims[:4]:
        hand.finish(claim, "parked", parked_for="retry", delay_ms=1, breaker=FAILURE)
    assert isinstance(hand.try_claim(hand.submit()), Claim)
    hand.finish(claims[4], "parked", parked_for="retry", delay_ms=1, breaker=FAILURE)
    waiting = hand.submit()
    assert hand.try_claim(waiting) is RefusedClaim.BREAKER
    task = store.tasks.get(waiting)
    assert task.until_ms is not None
    assert 0 < task.until_ms - store.house.now_ms() <= 30_000


def test_failures_that_are_minutes_apart_do_not_add_up(bench: Any, hand: Hand) -> None:
    for _ in range(6):
        hand.finish(hand.run(hand.submit()), "parked", parked_for="retry", delay_ms=1, breaker=FAILURE)
        bench.raw.hset(bench.key("breaker", "default"), "first_ms", LONG_AGO_MS)
    assert isinstance(hand.try_claim(hand.submit()), Claim)


def test_a_success_forgets_the_failures_before_it(store: RedisStore, hand: Hand) -> None:
    for _ in range(4):
        hand.finish(hand.run(hand.submit()), "parked", parked_for="retry", delay_ms=1, breaker=FAILURE)
    hand.finish(hand.run(hand.submit()), "completed")
    hand.finish(hand.run(hand.submit()), "parked", parked_for="retry", delay_ms=1, breaker=FAILURE)
    assert isinstance(hand.try_claim(hand.submit()), Claim)


def test_each_probe_that_fails_keeps_the_door_closed_for_longer(bench: Any, hand: Hand) -> None:
    key = bench.key("breaker", "default")
    for claim in [hand.run(hand.submit()) for _ in range(5)]:
        hand.finish(claim, "parked", parked_for="retry", delay_ms=1, breaker=FAILURE)
    pauses: list[int] = []
    for _ in range(6):
        pauses.append(round((int(bench.raw.hget(key, "until")) - bench.store.house.now_ms()) / 1000 / 10))
        bench.raw.hset(key, "until", LONG_AGO_MS)
        hand.finish(hand.run(hand.submit()), "parked", parked_for="retry", delay_ms=1, breaker=FAILURE)
    assert pauses == [3, 6, 12, 24, 48, 60]
