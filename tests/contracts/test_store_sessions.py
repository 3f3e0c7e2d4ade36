"""Conversations: who goes on with which, one run at a time, and what they cost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from claude_pool.errors import NotFound
from claude_pool.ids import new_run_id
from claude_pool.keys import PROTOCOL
from claude_pool.models.pool import NodeIdentity
from claude_pool.models.task import ErrorCode, ParkedFor, TaskState
from claude_pool.store.base import Claim, RefusedClaim
from claude_pool.store.redis import RedisStore
from claude_pool.testing.hands import Hand


def done(hand: Hand, task_id: str, *, total_usd: float = 0.5) -> str:
    """Run a task to its end in the conversation that it asks for; that conversation."""
    claim = hand.claim(task_id)
    session_id = begin(hand, claim)
    hand.finish(claim, "completed", cost_usd=0.1, session_id=session_id, session_cost_usd=total_usd)
    return session_id


def begin(hand: Hand, claim: Claim) -> str:
    """Start as a slot does."""
    resumed = None if claim.fork else claim.resume_session_id
    session_id = resumed or claim.session_id or new_run_id()
    assert hand.store.tasks.start(claim.task.id, claim.run_id, session_id=session_id)
    return session_id


def test_unrelated_tasks_share_no_session(hand: Hand) -> None:
    assert len({done(hand, hand.submit()) for _ in range(3)}) == 3


def test_a_task_goes_on_where_another_one_ended_and_counts_from_there(hand: Hand) -> None:
    first = hand.submit()
    session_id = done(hand, first, total_usd=0.5)
    second = hand.claim(hand.submit(session=f"continue:{first}"))
    assert (second.kind, second.resume_session_id, second.fork) == ("attempt", session_id, False)
    assert second.session_cost_usd == 0.5
    begin(hand, second)
    hand.finish(second, "completed", session_id=session_id, session_cost_usd=0.8)
    third = hand.claim(hand.submit(session=f"continue:{first}"))
    assert (third.resume_session_id, third.session_cost_usd) == (session_id, 0.8), "the session's total, not the task's"


def test_a_fork_gets_a_copy_and_leaves_the_original_alone(hand: Hand) -> None:
    first = hand.submit()
    session_id = done(hand, first, total_usd=0.5)
    forks = [hand.claim(hand.submit(session=f"fork:{first}")) for _ in range(2)]
    assert [(fork.resume_session_id, fork.fork, fork.session_cost_usd) for fork in forks] == [
        (session_id, True, 0.5)
    ] * 2
    copies = {begin(hand, fork) for fork in forks}
    assert len(copies | {session_id}) == 3
    assert isinstance(hand.try_claim(hand.submit(session=f"continue:{first}")), Claim)


def test_a_name_stands_for_one_session_from_its_first_use_on(hand: Hand) -> None:
    session_id = done(hand, hand.submit(session="name:release"), total_usd=0.3)
    again = hand.claim(hand.submit(session="name:release"))
    assert (again.resume_session_id, again.session_cost_usd) == (session_id, 0.3)
    other = hand.claim(hand.submit(session="name:other"))
    assert other.resume_session_id is None
    assert other.session_id not in {None, session_id}


def test_a_name_whose_first_run_never_started_keeps_its_id_for_the_next(store: RedisStore, hand: Hand) -> None:
    claim = hand.claim(hand.submit(session="name:n"))
    store.tasks.release(claim.task.id, claim.run_id, reason="x")
    again = hand.claim(claim.task.id)
    assert (again.resume_session_id, again.session_id) == (None, claim.session_id)


@pytest.mark.parametrize("session", ["name:n", "continue:{first}"])
def test_two_runs_at_once_in_one_session_wait_for_each_other(store: RedisStore, hand: Hand, session: str) -> None:
    first = hand.submit(session="name:n")
    done(hand, first)
    wanted = session.format(first=first)
    holder, waiter = hand.run(hand.submit(session=wanted)), hand.submit(session=wanted)
    assert hand.try_claim(waiter) is RefusedClaim.SESSION
    task = store.tasks.get(waiter)
    assert (task.state, task.parked_for) == (TaskState.PARKED, ParkedFor.SESSION)
    assert not task.waits_for_somebody, "a wait for it goes on"
    assert store.house.due() == [], "nobody looks again and again"
    hand.finish(holder, "completed", session_id=holder.resume_session_id, session_cost_usd=1)
    assert [bell.task_id for bell in store.house.due()] == [waiter]
    assert hand.claim(waiter).session_cost_usd == 1


def test_of_many_that_claim_one_name_at_once_one_works(store: RedisStore) -> None:
    hands = [Hand(store, number) for number in range(8)]
    ids = [hands[0].submit(session="name:crowd") for _ in hands]
    with ThreadPoolExecutor(len(hands)) as crowd:
        calls = [crowd.submit(hand.try_claim, task_id) for hand, task_id in zip(hands, ids, strict=True)]
    answers = [call.result() for call in calls]
    assert sum(isinstance(answer, Claim) for answer in answers) == 1
    assert answers.count(RefusedClaim.SESSION) == 7


@pytest.mark.parametrize("end", ["released", "cancelled", "lost", "parked", "review"])
def test_however_a_run_leaves_its_session_the_next_one_is_called(store: RedisStore, hand: Hand, end: str) -> None:
    done(hand, hand.submit(session="name:n"))
    task_id, waiter = hand.submit(session="name:n"), hand.submit(session="name:n")
    if end in {"released", "cancelled"}:
        claim = hand.claim(task_id)
    else:
        claim = hand.run(task_id, lease_ms=1 if end == "lost" else 60_000)
    assert hand.try_claim(waiter) is RefusedClaim.SESSION
    match end:
        case "released":
            store.tasks.release(task_id, claim.run_id, reason="x")
        case "cancelled":
            store.tasks.cancel(task_id, reason="x")
        case "lost":
            hand.reaped(task_id)
        case "parked":
            hand.finish(claim, "parked", parked_for="hold")
        case _:
            hand.finish(claim, "pending_review")
    assert waiter in {bell.task_id for bell in store.house.due()}
    assert isinstance(hand.try_claim(waiter), Claim)


def test_who_is_to_go_on_after_an_unfinished_task_waits_for_its_end(store: RedisStore, hand: Hand) -> None:
    first = hand.submit()
    second = hand.submit(session=f"continue:{first}")
    assert hand.try_claim(second) is RefusedClaim.SESSION
    session_id = done(hand, first)
    assert [bell.task_id for bell in store.house.due()] == [second]
    assert hand.claim(second).resume_session_id == session_id


def test_who_was_to_go_on_with_what_never_began_fails_and_says_so(store: RedisStore, hand: Hand) -> None:
    first = hand.submit()
    second = hand.submit(session=f"fork:{first}")
    store.tasks.cancel(first, reason="x")
    assert hand.try_claim(second) is RefusedClaim.NOT_PENDING
    task = store.tasks.get(second)
    assert task.error is not None
    assert (task.state, task.error.code) == (TaskState.FAILED, ErrorCode.SESSION_GONE)
    assert first in task.error.message


@pytest.mark.parametrize("how", ["continue", "fork"])
def test_an_unknown_task_is_refused_at_submit(store: RedisStore, hand: Hand, how: str) -> None:
    with pytest.raises(NotFound, match="t-0000000000"):
        hand.submit(session=f"{how}:t-0000000000")
    assert store.pool.status().pending == 0


def test_a_rejected_task_waits_while_somebody_else_is_in_its_session(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit(review=True))
    session_id = store.tasks.get(claim.task.id).session_id
    hand.finish(claim, "pending_review", session_id=session_id, session_cost_usd=0.1)
    guest = hand.run(hand.submit(session=f"continue:{claim.task.id}"))
    store.reviews.reject(claim.task.id, "No.", run_id=claim.run_id, who="w", by="ada")
    assert hand.try_claim(claim.task.id) is RefusedClaim.SESSION
    hand.finish(guest, "completed", session_id=session_id, session_cost_usd=0.4)
    store.house.due()
    again = hand.claim(claim.task.id)
    assert (again.kind, again.resume_session_id, again.session_cost_usd) == ("continuation", session_id, 0.4)


def test_a_name_whose_session_is_gone_begins_a_new_one(hand: Hand) -> None:
    session_id = done(hand, hand.submit(session="name:n"))
    claim = hand.run(hand.submit(session="name:n"))
    hand.finish(claim, "pending", next_kind="attempt", session_gone=True, session_id=session_id)
    again = hand.claim(claim.task.id)
    assert again.resume_session_id is None
    assert again.session_id not in {None, session_id}


def test_a_doorbell_at_the_wrong_node_is_sent_where_the_session_is(store: RedisStore, hand: Hand) -> None:
    far = Hand(store, node="n2")
    for name in ("n1", "n2"):
        node = NodeIdentity(node=name, incarnation="i", host=name, pid=1, version="0", protocol=PROTOCOL, slots=1)
        store.slots.register_node(node, lease_ms=60_000)
    done(far, far.submit(session="name:n"))
    task_id = hand.submit(session="name:n")
    assert hand.try_claim(task_id) is RefusedClaim.ELSEWHERE
    assert [(bell.task_id, bell.queue) for bell in store.house.unrung()] == [(task_id, "node.n2")]
    assert isinstance(far.try_claim(task_id), Claim)


def test_a_repeated_claim_answers_the_same(store: RedisStore, hand: Hand) -> None:
    first = hand.submit()
    done(hand, first)
    task_id, run_id = hand.submit(session=f"fork:{first}"), new_run_id()
    claims = [store.tasks.claim(task_id, hand.identity, run_id, lease_ms=60_000) for _ in range(2)]
    assert claims[0] == claims[1]
