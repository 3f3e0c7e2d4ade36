"""Approve, reject, hold, expire and remind: of several decisions one is heard."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from claude_pool.errors import Conflict, NotFound
from claude_pool.ids import new_run_id
from claude_pool.models.task import ErrorCode, TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.store.base import Claim
from claude_pool.store.redis import RedisStore
from claude_pool.testing.hands import Hand


def answered(hand: Hand, output: str = "the answer", *, task_id: str | None = None, **options: Any) -> Claim:
    """A task that waits for its review."""
    claim = hand.run(task_id or hand.submit(review=True, **options))
    hand.finish(claim, "pending_review", output=output, cost_usd=0.25, session_id="s1", session_cost_usd=0.25)
    return claim


def approve(store: RedisStore, claim: Claim) -> TaskState:
    return store.reviews.approve(claim.task.id, run_id=claim.run_id, who=new_run_id(), by="ada").task.state


def reject(store: RedisStore, claim: Claim, feedback: str = "No.") -> TaskState:
    return store.reviews.reject(claim.task.id, feedback, run_id=claim.run_id, who=new_run_id(), by="ada").task.state


def heard(decide: Callable[[], TaskState]) -> TaskState | None:
    try:
        return decide()
    except Conflict:
        return None


def test_an_approved_task_is_completed_with_its_answer(store: RedisStore, hand: Hand) -> None:
    claim = answered(hand)
    assert approve(store, claim) is TaskState.COMPLETED
    detail = store.tasks.detail(claim.task.id)
    assert detail.result is not None
    assert (detail.result.state, detail.result.output) == (TaskState.COMPLETED, "the answer")
    assert detail.runs[-1].then == "completed: approved by ada"
    assert store.reviews.waiting(limit=10) == []


def test_what_waits_longest_is_first_however_old_the_task_is(store: RedisStore, hand: Hand) -> None:
    ids = [hand.submit(review=True) for _ in range(3)]
    for task_id in (ids[2], ids[0], ids[1]):
        answered(hand, task_id=task_id)
        now = store.house.now_ms()
        while store.house.now_ms() == now:  # the order is by milliseconds
            pass
    assert [task.id for task in store.reviews.waiting(limit=10)] == [ids[2], ids[0], ids[1]]
    assert [task.id for task in store.reviews.waiting(limit=1)] == [ids[2]]


def test_a_rejected_task_continues_its_session_and_is_told_all_that_was_said(store: RedisStore, hand: Hand) -> None:
    claim = answered(hand, "first")
    assert reject(store, claim, "Not like this.") is TaskState.PENDING
    again = hand.run(claim.task.id)
    assert (again.kind, again.resume_session_id, again.feedback) == ("continuation", "s1", ("Not like this.",))
    hand.finish(again, "pending_review", output="second", session_id="s1")
    assert reject(store, again, 'Still not: ünïcode "quoted"') is TaskState.PENDING
    third = hand.run(claim.task.id)
    assert third.feedback == ("Not like this.", 'Still not: ünïcode "quoted"')
    hand.finish(third, "pending_review", output="third", session_id="s1")
    assert approve(store, third) is TaskState.COMPLETED
    detail = store.tasks.detail(claim.task.id)
    assert [run.output for run in detail.runs] == ["first", "second", ""]
    assert [run.outcome for run in detail.runs] == ["rejected", "rejected", "pending_review"]
    assert detail.runs[0].feedback == "Not like this."
    assert detail.feedback == third.feedback
    assert detail.task.counters.rejections == 2
    assert detail.task.counters.continuations == 0, "rejections have a limit of their own"


def test_the_last_rejection_fails_the_task_and_keeps_its_answer(store: RedisStore, hand: Hand) -> None:
    claim = answered(hand, "first", max_rejections=2)
    reject(store, claim)
    again = answered(hand, "second", task_id=claim.task.id)
    assert reject(store, again, "Never.") is TaskState.FAILED
    detail = store.tasks.detail(claim.task.id)
    assert detail.result is not None
    assert detail.result.output == "second"
    assert detail.task.error is not None
    assert detail.task.error.code is ErrorCode.REJECTED
    assert "Rejected 2 times, and max_rejections is 2." in detail.task.error.message
    assert detail.task.error.detail == "Never."


def test_a_rejected_task_is_rung_at_once(store: RedisStore, hand: Hand) -> None:
    claim = answered(hand)
    decided = store.reviews.reject(claim.task.id, "No.", run_id=claim.run_id, who="w", by="ada")
    assert [bell.task_id for bell in decided.bells] == [claim.task.id]


def test_structured_answers_stay_in_the_history_as_well(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit(review=True))
    result = TaskResult(task_id=claim.task.id, state=TaskState.PENDING_REVIEW, structured_output={"n": 1})
    store.tasks.finish(claim.task.id, claim.run_id, Verdict(to=TaskState.PENDING_REVIEW, result=result))
    reject(store, claim)
    assert store.tasks.runs(claim.task.id)[0].output == '{"n":1}'


def test_a_long_answer_is_cut_between_characters(store: RedisStore, hand: Hand) -> None:
    claim = answered(hand, "x" + "é" * 200_000)
    reject(store, claim)
    kept = store.tasks.runs(claim.task.id)[0].output
    assert 200_000 < len(kept.encode()) <= 262_144
    assert set(kept) == {"x", "é"}


def test_of_many_decisions_at_once_exactly_one_is_heard(store: RedisStore) -> None:
    hand = Hand(store)
    for _ in range(10):
        claim = answered(hand)
        with ThreadPoolExecutor(8) as crowd:
            verbs = [approve, reject] * 4
            told = [crowd.submit(heard, partial(verb, store, claim)) for verb in verbs]
            outcomes = [one.result() for one in told]
        assert len([one for one in outcomes if one is not None]) == 1
        assert hand.state(claim.task.id) in outcomes


def test_who_speaks_second_is_told_what_it_is_now(store: RedisStore, hand: Hand) -> None:
    claim = answered(hand)
    approve(store, claim)
    with pytest.raises(Conflict, match="is completed"):
        approve(store, claim)
    with pytest.raises(Conflict, match="is completed"):
        reject(store, claim)


def test_a_cancelled_review_can_be_neither_rejected_nor_approved(store: RedisStore, hand: Hand) -> None:
    claim = answered(hand)
    assert store.tasks.cancel(claim.task.id, reason="no").state is TaskState.CANCELLED
    for decide in (approve, reject):
        with pytest.raises(Conflict, match="is cancelled"):
            decide(store, claim)
    assert store.reviews.waiting(limit=10) == []
    assert store.tasks.get(claim.task.id).cost_usd == 0.25


def test_a_decision_about_an_older_run_is_refused(store: RedisStore, hand: Hand) -> None:
    old = answered(hand)
    reject(store, old)
    answered(hand, "new", task_id=old.task.id)
    for decide in (approve, reject):
        with pytest.raises(Conflict, match="ran again"):
            decide(store, old)
    assert hand.state(old.task.id) is TaskState.PENDING_REVIEW


@pytest.mark.parametrize("state", ["pending", "running", "completed"])
def test_what_waits_for_no_review_can_not_be_decided(store: RedisStore, hand: Hand, state: str) -> None:
    claim = hand.run(hand.submit())
    if state != "running":
        hand.finish(claim, state)
    with pytest.raises(Conflict, match=f"is {state}"):
        approve(store, claim)
    assert hand.state(claim.task.id).value == state


def test_a_task_that_is_not_there_is_not_found(store: RedisStore) -> None:
    with pytest.raises(NotFound):
        store.reviews.reject("t-0000000000", "x", run_id="r", who="w", by="ada")


def test_while_one_holds_the_decision_others_wait_and_he_may_decide(store: RedisStore, hand: Hand) -> None:
    claim = answered(hand)
    store.reviews.hold(claim.task.id, run_id=claim.run_id, who="merger", hold_ms=60_000)
    for decide in (approve, reject):
        with pytest.raises(Conflict, match="at this moment"):
            decide(store, claim)
    with pytest.raises(Conflict, match="at this moment"):
        store.reviews.hold(claim.task.id, run_id=claim.run_id, who="other", hold_ms=1)
    store.reviews.approve(claim.task.id, run_id=claim.run_id, who="merger", by="ada")
    assert hand.state(claim.task.id) is TaskState.COMPLETED


def test_a_hold_that_is_given_back_or_run_out_is_nobodys(store: RedisStore, hand: Hand) -> None:
    claim, other = answered(hand), answered(hand)
    store.reviews.hold(claim.task.id, run_id=claim.run_id, who="merger", hold_ms=60_000)
    store.reviews.let_go(claim.task.id, who="somebody else")
    assert heard(lambda: approve(store, claim)) is None
    store.reviews.let_go(claim.task.id, who="merger")
    assert approve(store, claim) is TaskState.COMPLETED
    store.reviews.hold(other.task.id, run_id=other.run_id, who="died", hold_ms=0)
    assert reject(store, other) is TaskState.PENDING


def test_a_review_that_nobody_decides_expires_as_failed(store: RedisStore, hand: Hand) -> None:
    claim = answered(hand, review_expires_s=0.001)
    lasting = answered(hand, review_expires_s=3600)
    forever = answered(hand)
    assert (store.tasks.get(lasting.task.id).until_ms or 0) > store.house.now_ms()
    assert store.tasks.get(forever.task.id).until_ms is None
    while hand.state(claim.task.id) is TaskState.PENDING_REVIEW:
        assert store.house.due() == []
    task = store.tasks.get(claim.task.id)
    assert task.error is not None
    assert (task.state, task.error.code) == (TaskState.FAILED, ErrorCode.REVIEW_EXPIRED)
    detail = store.tasks.detail(claim.task.id)
    assert detail.result is not None
    assert detail.result.output == "the answer"
    assert {hand.state(one.task.id) for one in (lasting, forever)} == {TaskState.PENDING_REVIEW}


def test_an_expiry_waits_for_somebody_who_is_about_to_decide(store: RedisStore, hand: Hand) -> None:
    claim = answered(hand, review_expires_s=0.001)
    store.reviews.hold(claim.task.id, run_id=claim.run_id, who="merger", hold_ms=60_000)
    began = store.house.now_ms()
    while store.house.now_ms() < began + 3:
        store.house.due()
    assert hand.state(claim.task.id) is TaskState.PENDING_REVIEW
    assert store.reviews.approve(claim.task.id, run_id=claim.run_id, who="merger", by="a").task.state.final


def test_an_answer_that_was_rejected_does_not_expire(store: RedisStore, hand: Hand) -> None:
    claim = answered(hand, review_expires_s=0.001)
    reject(store, claim)
    began = store.house.now_ms()
    while store.house.now_ms() < began + 3:
        assert store.house.due() == []
    assert store.tasks.get(claim.task.id).until_ms is None
    assert hand.state(claim.task.id) is TaskState.PENDING


def test_a_review_that_waits_is_told_of_again_and_again(store: RedisStore, hand: Hand) -> None:
    claim = answered(hand)
    cursor = store.events.head()
    assert store.house.remind(pause_ms=3_600_000) == []
    while not (reminded := store.house.remind(pause_ms=1)):
        pass
    assert reminded == [claim.task.id]
    events, _ = store.events.read(cursor)
    assert [(event.verb, event.subject, event.state) for event in events] == [("remind", claim.task.id, None)]
    approve(store, claim)
    began = store.house.now_ms()
    while store.house.now_ms() < began + 3:
        assert store.house.remind(pause_ms=0) == []


def test_a_rejected_task_whose_session_nobody_knows_begins_again(store: RedisStore, hand: Hand) -> None:
    claim = hand.claim(hand.submit(review=True))
    store.tasks.start(claim.task.id, claim.run_id, session_id="")
    hand.finish(claim, "pending_review", output="x")
    reject(store, claim)
    again = hand.claim(claim.task.id)
    assert (again.kind, again.resume_session_id, again.feedback) == ("attempt", None, ("No.",))
