"""The store's promises S1 to S9 as checks that run over any store.

    for contract in CONTRACTS:
        contract.check(bench)

Each check gets a `Bench` with an empty store, and raises AssertionError when the promise is broken. They move no
clock and look into no implementation; a test suite runs each as a test of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

from claude_pool.errors import KeyReused, StoreFull
from claude_pool.ids import new_run_id
from claude_pool.keys import QUEUE
from claude_pool.lifecycle import BORN_AS, Verb, may
from claude_pool.models.events import TaskEvent
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import TaskRequest, TaskState
from claude_pool.store.base import Claim, RefusedClaim, Store
from claude_pool.testing.hands import Hand

CROWD: Final = 50


class Bench(Protocol):
    """What a check works with."""

    @property
    def store(self) -> Store:
        """An empty store."""
        ...

    def full(self) -> AbstractContextManager[None] | None:
        """A time in which the store takes no more data; None when that can't be had."""
        ...


Check = Callable[[Bench], None]


class Contract(NamedTuple):
    """One check of one promise."""

    promise: str
    check: Check

    @property
    def name(self) -> str:
        """The promise and what is checked."""
        return f"{self.promise}-{getattr(self.check, '__name__', '')}"


CONTRACTS: Final[list[Contract]] = []


def promise(number: str) -> Callable[[Check], Check]:
    """Enter a check under its promise."""

    def enter(check: Check) -> Check:
        CONTRACTS.append(Contract(number, check))
        return check

    return enter


def everything(store: Store) -> list[TaskEvent]:
    """All events so far."""
    return store.events.read("0-0", limit=100_000)[0]


def raises(error: type[Exception], call: Callable[[], Any]) -> bool:
    """Whether the call raises this error."""
    try:
        call()
    except error:
        return True
    return False


def _all_claim(hands: Sequence[Hand], ids: Sequence[str]) -> list[Claim | RefusedClaim]:
    """Each hand claims its task, all at once."""
    with ThreadPoolExecutor(len(hands)) as crowd:
        claims = [crowd.submit(hand.try_claim, task_id) for hand, task_id in zip(hands, ids, strict=True)]
    return [claim.result() for claim in claims]


# -- S1: submit


@promise("S1")
def one_key_is_one_task_from_many_threads(bench: Bench) -> None:
    """However many submit it at once."""
    request = TaskRequest(prompt="Once.", idempotency_key="the key")
    submit = bench.store.tasks.submit
    with ThreadPoolExecutor(CROWD) as crowd:
        answers = [done.result()[0] for done in [crowd.submit(submit, [request], queue=QUEUE) for _ in range(CROWD)]]
    assert len({answer.task_id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    assert bench.store.pool.status().pending == 1


@promise("S1")
def the_order_of_names_in_a_request_does_not_matter(bench: Bench) -> None:
    """A schema is the same schema in whatever order a client writes it."""
    schema: dict[str, Any] = {"type": "object", "required": ["a"]}
    answers = [
        bench.store.tasks.submit(
            [TaskRequest(prompt="x", idempotency_key="k", options=TaskOptions(json_schema=wanted))], queue=QUEUE
        )[0]
        for wanted in (schema, dict(reversed(schema.items())))
    ]
    assert answers[0].task_id == answers[1].task_id
    assert [answer.created for answer in answers] == [True, False]


@promise("S1")
def one_key_for_two_requests_is_refused_and_nothing_is_stored(bench: Bench) -> None:
    """Nor is what came with it."""
    tasks = bench.store.tasks
    tasks.submit([TaskRequest(prompt="one", idempotency_key="k")], queue=QUEUE)
    mixed = [TaskRequest(prompt="new"), TaskRequest(prompt="two", idempotency_key="k")]
    assert raises(KeyReused, lambda: tasks.submit(mixed, queue=QUEUE))
    assert bench.store.pool.status().pending == 1


# -- S2: claims


@promise("S2")
def of_many_claims_exactly_one_wins(bench: Bench) -> None:
    """From as many slots."""
    hands = [Hand(bench.store, number) for number in range(16)]
    task_id = hands[0].submit()
    answers = _all_claim(hands, [task_id] * len(hands))
    assert sum(isinstance(answer, Claim) for answer in answers) == 1
    assert {answer for answer in answers if not isinstance(answer, Claim)} == {RefusedClaim.NOT_PENDING}


@promise("S2")
def a_slot_that_is_not_registered_gets_nothing(bench: Bench) -> None:
    """The task stays where it is."""
    hand = Hand(bench.store)
    task_id = hand.submit()
    bench.store.slots.leave(hand.identity)
    assert hand.try_claim(task_id) is RefusedClaim.FENCED
    assert hand.state(task_id) is TaskState.PENDING


@promise("S2")
def a_doorbell_for_no_task_is_refused(bench: Bench) -> None:
    """A forged message does no harm."""
    assert Hand(bench.store).try_claim("t-0000000000") is RefusedClaim.UNKNOWN


# -- S3: fences


@promise("S3")
def a_stale_run_changes_nothing_and_is_told(bench: Bench) -> None:
    """Once another run has the task."""
    hand = Hand(bench.store)
    stale, _ = hand.lose(hand.submit())
    fresh = hand.run(stale.task.id)
    before = bench.store.tasks.detail(stale.task.id)
    assert hand.finish(stale, "completed", output="too late", cost_usd=1) is None
    assert not hand.start(stale)
    assert not bench.store.tasks.release(stale.task.id, stale.run_id, reason="stale")
    assert hand.beat(stale).fenced
    assert bench.store.tasks.detail(stale.task.id) == before
    assert not hand.beat(fresh).fenced


@promise("S3")
def a_run_id_that_never_was_changes_nothing(bench: Bench) -> None:
    """A fence can't be guessed."""
    hand = Hand(bench.store)
    claim = hand.run(hand.submit())
    assert hand.finish(claim.evolve(run_id=new_run_id()), "failed") is None
    assert hand.state(claim.task.id) is TaskState.RUNNING


# -- S4: events


@promise("S4")
def every_change_of_state_is_one_legal_event(bench: Bench) -> None:
    """The events alone tell every task's state."""
    hand = Hand(bench.store)
    done, parked, lost, cancelled = ids = [hand.submit() for _ in range(4)]
    hand.finish(hand.run(done), "completed")
    hand.finish(hand.run(parked), "parked", parked_for="retry", delay_ms=0)
    bench.store.house.due()
    hand.lose(lost)
    bench.store.tasks.cancel(cancelled, reason="no")
    states: dict[str, TaskState] = {}
    for event in everything(bench.store):
        if event.state is None:
            continue
        if event.verb == Verb.SUBMIT:
            assert event.state in BORN_AS
        else:
            was = states[event.subject]
            assert event.was is was, f"a change before {event} has no event"
            assert may(Verb(event.verb), was, event.state), f"not in the table: {event}"
        states[event.subject] = event.state
    assert states == {id_: hand.state(id_) for id_ in ids}


# -- S5: final states


@promise("S5")
def cancel_and_finish_at_once_end_once(bench: Bench) -> None:
    """Whoever wins, the cost is settled once."""
    hand = Hand(bench.store)
    claims = [hand.run(hand.submit()) for _ in range(20)]
    with ThreadPoolExecutor(8) as crowd:
        for claim in claims:
            crowd.submit(bench.store.tasks.cancel, claim.task.id, reason="race")
            crowd.submit(hand.finish, claim, "completed", cost_usd=0.5)
    for claim in claims:
        task = bench.store.tasks.get(claim.task.id)
        assert task.state in {TaskState.COMPLETED, TaskState.CANCELLED}
        assert task.cost_usd == 0.5
    assert bench.store.pool.status().spent_usd == 0.5 * len(claims)


@promise("S5")
def a_final_task_never_changes(bench: Bench) -> None:
    """Whatever is asked of it."""
    hand = Hand(bench.store)
    claim = hand.run(hand.submit())
    final = hand.finish(claim, "completed", output="done", cost_usd=0.25)
    assert bench.store.tasks.cancel(claim.task.id, reason="late") == final
    assert hand.finish(claim, "failed", cost_usd=9) == final
    assert bench.store.tasks.wake(claim.task.id) is None
    assert hand.try_claim(claim.task.id) is RefusedClaim.NOT_PENDING
    assert bench.store.pool.status().spent_usd == 0.25


# -- S6: time


@promise("S6")
def a_lease_runs_out_by_the_stores_clock(bench: Bench) -> None:
    """And only that lease."""
    hand = Hand(bench.store)
    alive, gone = hand.run(hand.submit()), hand.run(hand.submit(), lease_ms=1)
    assert hand.reaped(gone.task.id).run_id == gone.run_id
    assert hand.state(alive.task.id) is TaskState.RUNNING


@promise("S6")
def a_delay_counts_from_the_stores_now(bench: Bench) -> None:
    """Not from the clock of the slot that asks for it."""
    hand = Hand(bench.store)
    task = hand.finish(hand.run(hand.submit()), "parked", parked_for="retry", delay_ms=600_000)
    assert task is not None
    assert task.until_ms == task.since_ms + 600_000
    assert not bench.store.house.due()


# -- S7: money


@promise("S7")
def claims_never_reserve_more_than_there_is(bench: Bench) -> None:
    """However many claim at once; what does not fit waits."""
    bench.store.pool.set_limit("pool", 1.0)
    hands = [Hand(bench.store, number) for number in range(16)]
    ids = [hands[0].submit(max_budget_usd=0.3) for _ in hands]
    answers = _all_claim(hands, ids)
    assert sum(isinstance(answer, Claim) for answer in answers) == 3
    status = bench.store.pool.status()
    assert status.reserved_usd == 0.9
    assert status.parked == len(ids) - 3


# -- S8: a full store


@promise("S8")
def a_full_store_still_takes_what_settles(bench: Bench) -> None:
    """Results and money are not lost with new work."""
    hand = Hand(bench.store)
    ids = [hand.submit() for _ in range(4)]
    done, cancelled, unstarted = hand.run(ids[0]), hand.run(ids[1]), hand.claim(ids[2])
    full = bench.full()
    if full is None:
        return
    with full:
        assert raises(StoreFull, hand.submit)
        assert raises(StoreFull, lambda: hand.try_claim(ids[3]))
        assert not hand.beat(done, progress="still here").fenced
        assert hand.finish(done, "completed", output="kept", cost_usd=0.5) is not None
        assert bench.store.tasks.cancel(cancelled.task.id, reason="full").cancel_requested == "full"
        assert bench.store.tasks.release(ids[2], unstarted.run_id, reason="full")
    found = bench.store.tasks.detail(ids[0]).result
    assert found is not None
    assert found.output == "kept"
    assert hand.state(ids[3]) is TaskState.PENDING


# -- S9: status


@promise("S9")
def status_counts_every_state(bench: Bench) -> None:
    """And the slots."""
    hand = Hand(bench.store)
    ids = [hand.submit() for _ in range(6)]
    hand.finish(hand.run(ids[0]), "completed")
    hand.finish(hand.run(ids[1]), "failed")
    bench.store.tasks.cancel(ids[2], reason="no")
    bench.store.tasks.hold(ids[3], reason="later")
    hand.run(ids[4])
    status = bench.store.pool.status()
    counts = {state: getattr(status, state) for state in TaskState}
    assert counts == dict.fromkeys(TaskState, 0) | {bench.store.tasks.get(id_).state: 1 for id_ in ids}
    assert (status.slots, status.busy, status.idle) == (1, 1, 0)
