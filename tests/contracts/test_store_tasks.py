from __future__ import annotations

from typing import Any

import pytest

from claude_pool.errors import Conflict, KeyReused, NotFound, PoolDrained
from claude_pool.ids import new_run_id
from claude_pool.keys import QUEUE
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import BranchFacts, ErrorCode, ParkedFor, TaskError, TaskRequest, TaskState
from claude_pool.models.verdict import CountsAs, Verdict
from claude_pool.store.base import Claim, TaskFilter
from claude_pool.store.redis import RedisStore
from claude_pool.testing.contracts import everything
from claude_pool.testing.hands import LEASE_MS, Hand

LONG_AGO_MS = 1


# -- submit


def test_a_new_task_is_pending_with_a_title_and_what_was_chosen(store: RedisStore) -> None:
    options = TaskOptions(model="haiku", tags=("a", "b"), max_budget_usd=0.5)
    (answer,) = store.tasks.submit([TaskRequest(prompt="Say\n\n hello.  ", options=options)], queue=QUEUE)
    detail = store.tasks.detail(answer.task_id)
    assert detail.task.state is TaskState.PENDING
    assert detail.task.title == "Say hello."
    assert detail.task.options == options
    assert detail.prompt == "Say\n\n hello.  "
    assert detail.result is None
    assert detail.runs == ()


def test_options_keep_what_was_chosen_apart_from_defaults(store: RedisStore) -> None:
    chosen = TaskOptions(on_lost="resume")
    (answer,) = store.tasks.submit([TaskRequest(prompt="x", options=chosen)], queue=QUEUE)
    assert store.tasks.get(answer.task_id).options.model_fields_set == {"on_lost"}


def test_a_key_seen_twice_in_one_call_is_one_task(store: RedisStore) -> None:
    first, second = store.tasks.submit([TaskRequest(prompt="x", idempotency_key="k")] * 2, queue=QUEUE)
    assert first.task_id == second.task_id
    assert [first.created, second.created] == [True, False]


def test_a_key_whose_task_is_gone_makes_a_new_one(bench: Any, hand: Hand) -> None:
    gone = hand.submit(key="k")
    bench.raw.delete(bench.key("task", gone))
    fresh = hand.submit(key="k")
    assert fresh != gone
    assert hand.submit(key="k") == fresh


def test_a_key_for_two_requests_in_one_call_stores_neither(store: RedisStore) -> None:
    two = [TaskRequest(prompt=prompt, idempotency_key="k") for prompt in ("x", "y")]
    with pytest.raises(KeyReused):
        store.tasks.submit(two, queue=QUEUE)
    assert store.tasks.list(TaskFilter()).tasks == ()


def test_a_refusal_in_a_later_step_takes_back_the_earlier_ones(store: RedisStore) -> None:
    store.tasks.submit([TaskRequest(prompt="x", idempotency_key="k")], queue=QUEUE)
    many = [TaskRequest(prompt=str(number)) for number in range(300)]
    with pytest.raises(KeyReused):
        store.tasks.submit([*many, TaskRequest(prompt="y", idempotency_key="k")], queue=QUEUE)
    assert store.pool.status().pending == 1


def test_what_was_stored_is_found_again_when_the_answer_was_lost(store: RedisStore) -> None:
    call = store.tasks._new(TaskRequest(prompt="x"), QUEUE)
    first, again = (store.tasks._send([call]) for _ in range(2))
    assert first == again == [["done", [call[0], "pending", 1]]]
    assert store.pool.status().pending == 1


def test_an_id_that_is_taken_is_replaced(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter(["t-aaaaaaaaaa", "t-aaaaaaaaaa", "t-bbbbbbbbbb"])
    monkeypatch.setattr("claude_pool.store.tasks.new_id", lambda _: next(ids))
    answers = [store.tasks.submit([TaskRequest(prompt=prompt)], queue=QUEUE)[0].task_id for prompt in ("x", "y")]
    assert answers == ["t-aaaaaaaaaa", "t-bbbbbbbbbb"]


def test_a_drained_pool_takes_nothing_new_but_knows_its_keys(store: RedisStore) -> None:
    known = TaskRequest(prompt="x", idempotency_key="k")
    (before,) = store.tasks.submit([known], queue=QUEUE)
    store.pool.set_accepting(accepting=False)
    with pytest.raises(PoolDrained):
        store.tasks.submit([TaskRequest(prompt="y")], queue=QUEUE)
    assert store.tasks.submit([known], queue=QUEUE)[0].task_id == before.task_id
    store.pool.set_accepting(accepting=True)
    assert store.tasks.submit([TaskRequest(prompt="y")], queue=QUEUE)[0].created


def test_nothing_submitted_is_nothing_stored(store: RedisStore) -> None:
    assert store.tasks.submit([], queue=QUEUE) == []


@pytest.mark.parametrize("text", ["-p", "/help", "@file", "\u2028 \x07 é 🎉", "%s {x} $1 '\";"])
def test_any_text_comes_back_as_it_was(store: RedisStore, hand: Hand, text: str) -> None:
    claim = hand.run(hand.submit(text))
    assert claim.prompt == text
    hand.finish(claim, "completed", output=text)
    result = store.tasks.detail(claim.task.id).result
    assert result is not None
    assert result.output == text


# -- claim, release, start


def test_a_claim_carries_what_a_run_needs(hand: Hand) -> None:
    claim = hand.claim(hand.submit("Do it.", max_budget_usd=0.75))
    assert (claim.prompt, claim.number, claim.kind) == ("Do it.", 1, "attempt")
    assert (claim.cap_usd, claim.resume_session_id, claim.lost_before) == (0.75, None, False)
    assert claim.task.state is TaskState.CLAIMED
    assert claim.task.counters.attempts == 1
    assert (claim.task.slot, claim.task.node) == (hand.identity.slot_id, "n1")


def test_a_claim_repeated_after_a_lost_answer_is_the_same_claim(store: RedisStore, hand: Hand) -> None:
    task_id, run_id = hand.submit(), new_run_id()
    first, again = (store.tasks.claim(task_id, hand.identity, run_id, lease_ms=LEASE_MS) for _ in range(2))
    assert isinstance(first, Claim)
    assert first == again


def test_a_release_costs_nothing_and_gives_everything_back(store: RedisStore, hand: Hand) -> None:
    claim = hand.claim(hand.submit(max_budget_usd=0.75))
    assert store.tasks.release(claim.task.id, claim.run_id, reason="no workspace")
    task = store.tasks.get(claim.task.id)
    assert (task.state, task.cost_usd, task.reserved_usd) == (TaskState.PENDING, 0, 0)
    assert task.counters.attempts == 0
    assert store.pool.status().reserved_usd == 0
    (run,) = store.tasks.runs(claim.task.id)
    assert (run.outcome, run.then) == ("released", "pending: no workspace")
    assert not store.tasks.release(claim.task.id, claim.run_id, reason="again")


def test_a_start_repeated_after_a_lost_answer_still_holds(store: RedisStore, hand: Hand) -> None:
    claim = hand.claim(hand.submit())
    session_id = new_run_id()
    assert store.tasks.start(claim.task.id, claim.run_id, session_id=session_id)
    assert store.tasks.start(claim.task.id, claim.run_id, session_id=session_id)
    assert not store.tasks.start(claim.task.id, claim.run_id, session_id=new_run_id())


def test_a_running_task_can_not_be_released(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit())
    assert not store.tasks.release(claim.task.id, claim.run_id, reason="too late")


def test_the_run_that_is_not_over_is_in_the_history(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit())
    (run,) = store.tasks.runs(claim.task.id)
    assert (run.run_id, run.number, run.kind, run.ended_ms) == (claim.run_id, 1, "attempt", None)
    assert run.started_ms is not None


# -- finish


def test_a_completed_task_keeps_result_cost_and_history(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit(max_budget_usd=1))
    branch = BranchFacts(branch="pool/x", base="a", tip="b")
    hand.finish(claim, "completed", output="done", cost_usd=0.123456, branch=branch)
    detail = store.tasks.detail(claim.task.id)
    assert detail.task.state is TaskState.COMPLETED
    assert detail.task.reserved_usd == 0
    assert detail.result is not None
    assert (detail.result.output, detail.result.cost_usd, detail.result.branch) == ("done", 0.123456, branch)
    (run,) = detail.runs
    assert (run.outcome, run.cost_usd, run.cost_estimated) == ("completed", 0.123456, False)


def test_a_resumed_run_gets_the_session_and_what_it_cost_so_far(hand: Hand) -> None:
    task_id = hand.submit()
    first = hand.run(task_id)
    hand.finish(first, "pending", cost_usd=0.5, session_id="s-1", session_cost_usd=0.5, counts_as="continuation")
    second = hand.run(task_id)
    assert (second.kind, second.resume_session_id, second.session_cost_usd) == ("continuation", "s-1", 0.5)
    assert (second.number, second.task.counters.continuations, second.task.counters.attempts) == (2, 1, 1)
    task = hand.finish(second, "completed", cost_usd=0.25)
    assert task is not None
    assert task.cost_usd == 0.75


def test_a_fresh_attempt_has_no_session(hand: Hand) -> None:
    task_id = hand.submit()
    hand.finish(hand.run(task_id), "pending", next_kind="attempt", session_id="s-1", session_cost_usd=1)
    claim = hand.claim(task_id)
    assert (claim.kind, claim.resume_session_id, claim.session_cost_usd) == ("attempt", None, 0)
    assert claim.task.session_id is None


@pytest.mark.parametrize(
    ("counts_as", "fields"),
    [("continuation", "continuations"), ("infra", "infra_retries"), ("crash", "crashes"), ("attempt", "attempts"),
     ("restart", "crashes attempts")],
)  # fmt: skip
def test_a_repeat_uses_up_its_own_counters(store: RedisStore, hand: Hand, counts_as: str, fields: str) -> None:
    task_id = hand.submit()
    claim = hand.run(task_id)
    hand.finish(claim, "pending", counts_as=counts_as)
    before, after = claim.task.counters, store.tasks.get(task_id).counters
    assert after == before.model_copy(update={field: getattr(before, field) + 1 for field in fields.split()})


@pytest.mark.parametrize("counts_as", list(CountsAs))
def test_the_end_uses_up_no_counter_but_that_of_crashes(store: RedisStore, hand: Hand, counts_as: CountsAs) -> None:
    claim = hand.run(hand.submit())
    hand.finish(claim, "failed", counts_as=counts_as)
    before, after = claim.task.counters, store.tasks.get(claim.task.id).counters
    assert after == before.model_copy(update={"crashes": 1 if counts_as in {"crash", "restart"} else 0})


def test_a_parked_task_says_for_what_and_until_when(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit())
    error = TaskError(code=ErrorCode.THROTTLED, message="slow down")
    hand.finish(claim, "parked", parked_for="retry", until_ms=LONG_AGO_MS, error=error, counts_as="infra")
    task = store.tasks.get(claim.task.id)
    assert (task.parked_for, task.until_ms, task.error) == (ParkedFor.RETRY, LONG_AGO_MS, error)
    (bell,) = store.house.due()
    assert bell.task_id == claim.task.id
    woken = store.tasks.get(claim.task.id)
    assert (woken.state, woken.parked_for, woken.until_ms) == (TaskState.PENDING, None, None)


def test_a_run_that_never_started_may_fail(store: RedisStore, hand: Hand) -> None:
    claim = hand.claim(hand.submit(max_budget_usd=1))
    assert hand.finish(claim, "completed") is None
    task = hand.finish(claim, "failed", error=TaskError(code=ErrorCode.WORKSPACE, message="no worktree"))
    assert task is not None
    assert (task.state, task.cost_usd, task.reserved_usd) == (TaskState.FAILED, 0, 0)
    assert store.pool.status().reserved_usd == 0


def test_a_finish_repeated_after_a_lost_answer_counts_once(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit())
    first, again = (hand.finish(claim, "pending", cost_usd=0.5, counts_as="continuation") for _ in range(2))
    assert first == again
    assert store.pool.status().spent_usd == 0.5
    assert len(store.tasks.runs(claim.task.id)) == 1


def test_history_is_bounded(store: RedisStore, hand: Hand) -> None:
    task_id = hand.submit(max_infra_retries=1000)
    for _ in range(105):
        claim = hand.claim(task_id)
        store.tasks.release(task_id, claim.run_id, reason="again")
    runs = store.tasks.runs(task_id)
    assert len(runs) == 100
    assert runs[-1].number == 105


def test_a_task_for_review_is_settled_and_waits(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit())
    task = hand.finish(claim, "pending_review", output="look", cost_usd=0.5)
    assert task is not None
    assert task.waits_for_somebody
    assert store.pool.status().spent_usd == 0.5


# -- late results


def test_a_lost_run_that_nobody_took_over_may_still_complete(store: RedisStore, hand: Hand) -> None:
    claim, lost = hand.lose(hand.submit(max_budget_usd=1))
    assert lost.state is TaskState.PENDING
    assert store.pool.status().spent_usd == 1
    task = hand.finish(claim, "completed", output="late", cost_usd=0.25)
    assert task is not None
    assert (task.state, task.cost_usd, task.error) == (TaskState.COMPLETED, 0.25, None)
    assert (store.pool.status().spent_usd, store.pool.status().reserved_usd) == (0.25, 0)
    (run,) = store.tasks.runs(claim.task.id)
    assert (run.outcome, run.cost_usd, run.cost_estimated) == ("completed", 0.25, False)
    assert hand.finish(claim, "completed", cost_usd=9) == task


def test_a_lost_run_that_was_held_may_still_complete(store: RedisStore, hand: Hand) -> None:
    claim, lost = hand.lose(hand.submit(on_lost="hold"))
    assert lost.state is TaskState.PARKED
    assert hand.finish(claim, "completed") is not None
    assert hand.state(claim.task.id) is TaskState.COMPLETED


def test_a_late_wish_to_run_again_only_corrects_the_cost(store: RedisStore, hand: Hand) -> None:
    claim, _ = hand.lose(hand.submit(max_budget_usd=1))
    before = store.tasks.get(claim.task.id)
    events = len(everything(store))
    after = hand.finish(claim, "pending", cost_usd=0.25, session_id="s-9", session_cost_usd=0.25, counts_as="crash")
    assert after is not None
    assert (after.state, after.cost_usd, after.counters) == (TaskState.PENDING, 0.25, before.counters)
    assert len(everything(store)) == events
    again = hand.claim(claim.task.id)
    assert (again.resume_session_id, again.session_cost_usd) == ("s-9", 0.25)
    assert hand.finish(claim, "completed") is None


def test_a_late_wish_to_wait_is_heard(store: RedisStore, hand: Hand) -> None:
    claim, _ = hand.lose(hand.submit())
    task = hand.finish(claim, "parked", parked_for="limit", delay_ms=60_000)
    assert task is not None
    assert task.state is TaskState.PARKED
    assert task.until_ms is not None


def test_a_late_result_of_a_failed_task_is_not_taken(store: RedisStore, hand: Hand) -> None:
    claim, lost = hand.lose(hand.submit(on_lost="fail"))
    assert lost.state is TaskState.FAILED
    assert hand.finish(claim, "completed", output="too late") is None


# -- cancel, hold, wake


@pytest.mark.parametrize("state", ["pending", "parked", "claimed", "pending_review"])
def test_what_does_not_run_is_cancelled_at_once(store: RedisStore, hand: Hand, state: str) -> None:
    task_id = hand.submit(max_budget_usd=1)
    if state == "parked":
        store.tasks.hold(task_id, reason="wait")
    elif state == "claimed":
        hand.claim(task_id)
    elif state == "pending_review":
        hand.finish(hand.run(task_id), state)
    task = store.tasks.cancel(task_id, reason="not wanted")
    assert task.state is TaskState.CANCELLED
    assert task.error == TaskError(code=ErrorCode.CANCELLED, message="not wanted")
    assert (task.reserved_usd, store.pool.status().reserved_usd) == (0, 0)
    result = store.tasks.detail(task_id).result
    assert result is not None
    assert result.state is TaskState.CANCELLED


def test_a_task_cancelled_while_claimed_never_starts(store: RedisStore, hand: Hand) -> None:
    claim = hand.claim(hand.submit())
    store.tasks.cancel(claim.task.id, reason="no")
    assert not hand.start(claim)
    assert hand.beat(claim).fenced
    assert store.slots.slots()[0].task_id is None


def test_a_running_task_is_asked_to_stop_and_its_slot_is_rung(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit())
    seen = store.slots.await_orders(hand.identity.slot_id, seen="", block_ms=0)
    task = store.tasks.cancel(claim.task.id, reason="enough")
    assert (task.state, task.cancel_requested) == (TaskState.RUNNING, "enough")
    assert store.slots.await_orders(hand.identity.slot_id, seen=seen, block_ms=0) != seen
    assert hand.beat(claim).cancel == "enough"
    assert store.tasks.cancel(claim.task.id, reason="again").cancel_requested == "enough"


def test_an_accepted_cancel_wins_and_keeps_result_and_cost(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit())
    store.tasks.cancel(claim.task.id, reason="enough")
    task = hand.finish(claim, "completed", output="was quicker", cost_usd=0.5)
    assert task is not None
    assert (task.state, task.cancel_requested, task.cost_usd) == (TaskState.CANCELLED, None, 0.5)
    result = store.tasks.detail(task.id).result
    assert result is not None
    assert (result.output, result.state, result.cost_usd) == ("was quicker", TaskState.CANCELLED, 0.5)
    assert result.error == TaskError(code=ErrorCode.CANCELLED, message="enough")


def test_a_lost_run_that_was_to_stop_ends_cancelled(store: RedisStore, hand: Hand) -> None:
    claim = hand.run(hand.submit(max_budget_usd=1), lease_ms=1)
    store.tasks.cancel(claim.task.id, reason="enough")
    assert hand.reaped(claim.task.id).state is TaskState.CANCELLED
    assert store.tasks.get(claim.task.id).cost_usd == 1


def test_only_a_pending_task_can_be_held(store: RedisStore, hand: Hand) -> None:
    task_id = hand.submit()
    assert store.tasks.hold(task_id, reason="wait").parked_for is ParkedFor.HOLD
    assert not store.house.due()
    with pytest.raises(Conflict, match="parked"):
        store.tasks.hold(task_id, reason="again")
    bell = store.tasks.wake(task_id)
    assert bell is not None
    assert (bell.task_id, bell.queue) == (task_id, QUEUE)
    assert store.tasks.wake(task_id) is None


@pytest.mark.parametrize("verb", ["get", "detail", "runs", "cancel", "hold"])
def test_what_does_not_exist_is_not_found(store: RedisStore, verb: str) -> None:
    more: dict[str, Any] = {"reason": "x"} if verb in {"cancel", "hold"} else {}
    with pytest.raises(NotFound, match="t-0000000000"):
        getattr(store.tasks, verb)("t-0000000000", **more)


def test_what_does_not_exist_is_harmless_where_a_slot_speaks(store: RedisStore) -> None:
    assert store.tasks.wake("t-0000000000") is None
    assert store.tasks.finish("t-0000000000", "r", Verdict(to=TaskState.FAILED)) is None
    assert not store.tasks.start("t-0000000000", "r", session_id="s")
    assert not store.tasks.release("t-0000000000", "r", reason="x")
