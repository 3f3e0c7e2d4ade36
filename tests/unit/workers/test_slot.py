"""From doorbell to finish, with a verdict that is only told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from claude_pool.errors import StoreReset, Unreachable
from claude_pool.models.run import StopCause
from claude_pool.models.task import ParkedFor, TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.store.base import Claim, Doorbell
from claude_pool.testing.graphs import Chained, named
from workers import slot as module
from workers.controls import Controls
from workers.slot import Slot


class Told:
    """Stands for `Running`: says what it was told to, and does something first."""

    def __init__(self) -> None:
        self.verdict: Verdict | None = Verdict(to=TaskState.COMPLETED, cost_usd=0.5)
        self.meanwhile: Callable[[Claim, Controls], object] = lambda _claim, _controls: None
        self.claims: list[Claim] = []

    def __call__(self, tools: Any, claim: Claim, controls: Controls) -> Any:
        self.claims.append(claim)
        told = self

        class Running:
            def verdict(self) -> Verdict | None:
                told.meanwhile(claim, controls)
                return told.verdict

        return Running()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(module, "Running", told)
    return told


@pytest.fixture
def slot(bench: Any, told: Told) -> Slot:
    return Slot(bench.tools)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that were made instead of being waited for."""
    made: list[float] = []
    monkeypatch.setattr(module.time, "sleep", made.append)
    return made


def test_a_task_is_claimed_run_and_finished(bench: Any, slot: Slot, told: Told) -> None:
    task_id = bench.submit()
    seen: list[TaskState] = []

    def start(claim: Claim, _controls: Controls) -> None:
        seen.append(bench.task(task_id).state)
        bench.hand.start(claim)

    told.meanwhile = start
    slot.answer(task_id)
    assert seen == [TaskState.CLAIMED]
    task = bench.task(task_id)
    assert (task.state, task.cost_usd) == (TaskState.COMPLETED, 0.5)
    assert list(bench.tools.journal.entries()) == []


def test_the_guard_is_told_of_the_lease_before_anything_is_done(bench: Any, slot: Slot, told: Told) -> None:
    told.meanwhile = lambda *_: deadlines.extend(bench.pulse.deadlines)
    deadlines: list[float] = []
    slot.answer(bench.submit())
    assert len(deadlines) == 1


@pytest.mark.parametrize("kind", ["unknown", "finished", "claimed"])
def test_a_claim_that_is_refused_does_nothing_and_lets_nothing_follow(
    bench: Any, slot: Slot, told: Told, kind: str
) -> None:
    task_id = "t-0000000000" if kind == "unknown" else bench.submit()
    if kind == "finished":
        bench.store.tasks.cancel(task_id, reason="no")
    elif kind == "claimed":
        bench.hand.claim(task_id)
    assert slot.answer(task_id) is False
    assert told.claims == []


def test_a_store_that_is_away_at_the_claim_is_a_refusal(
    bench: Any, slot: Slot, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_a: Any, **_k: Any) -> None:
        raise Unreachable

    monkeypatch.setattr(bench.store.tasks, "claim", away)
    assert slot.answer(bench.submit()) is False
    assert told.claims == []


def test_what_was_not_started_is_given_back_and_rung_again(bench: Any, slot: Slot, told: Told) -> None:
    told.verdict = None
    task_id = bench.submit(priority=1)
    assert slot.answer(task_id) is False
    task = bench.task(task_id)
    assert (task.state, task.counters.attempts, task.reserved_usd) == (TaskState.PENDING, 0, 0)
    assert [(bell.task_id, bell.queue, bell.priority) for bell in bench.bells.rung] == [(task_id, task.queue, 1)]


def test_what_can_not_be_given_back_waits_for_its_lease(
    bench: Any, slot: Slot, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_a: Any, **_k: Any) -> None:
        raise Unreachable

    told.verdict = None
    monkeypatch.setattr(bench.store.tasks, "release", away)
    task_id = bench.submit()
    assert slot.answer(task_id) is False
    assert bench.task(task_id).state is TaskState.CLAIMED
    assert bench.bells.rung == []


def started(bench: Any) -> Callable[[Claim, Controls], None]:
    def start(claim: Claim, _controls: Controls) -> None:
        bench.hand.start(claim)

    return start


def test_a_task_that_is_to_go_on_at_once_is_rung_again(bench: Any, slot: Slot, told: Told) -> None:
    told.meanwhile, told.verdict = started(bench), Verdict(to=TaskState.PENDING, session_id="s")
    task_id = bench.submit(priority=0)
    assert slot.answer(task_id) is False
    assert [(bell.task_id, bell.priority) for bell in bench.bells.rung] == [(task_id, 0)]


def test_a_bell_that_can_not_be_rung_is_left_to_the_housekeeper(bench: Any, slot: Slot, told: Told) -> None:
    told.meanwhile, told.verdict = started(bench), Verdict(to=TaskState.PENDING)
    bench.bells.away = True
    task_id = bench.submit()
    assert slot.answer(task_id) is False
    assert bench.task(task_id).state is TaskState.PENDING


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict(to=TaskState.FAILED),
        Verdict(to=TaskState.PENDING_REVIEW),
        Verdict(to=TaskState.PARKED, parked_for=ParkedFor.RETRY, delay_ms=60_000),
    ],
)
def test_whatever_is_not_completed_lets_nothing_follow_and_is_not_rung(
    bench: Any, slot: Slot, told: Told, verdict: Verdict
) -> None:
    told.meanwhile, told.verdict = started(bench), verdict
    task_id = bench.submit()
    assert slot.answer(task_id) is False
    assert bench.task(task_id).state is verdict.to
    assert bench.bells.rung == []


def test_a_result_waits_for_the_store_in_the_journal_and_is_delivered_once(
    bench: Any, slot: Slot, told: Told, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, calls, kept = bench.store.tasks.end, [0], list[list[str]]()

    def sometimes(task_id: str, run_id: str, verdict: Verdict) -> Any:
        calls[0] += 1
        kept.append([entry.run_id for entry in bench.tools.journal.entries()])
        if calls[0] <= 8:
            raise Unreachable
        return finish(task_id, run_id, verdict)

    monkeypatch.setattr(bench.store.tasks, "end", sometimes)
    told.meanwhile = started(bench)
    told.verdict = Verdict(
        to=TaskState.COMPLETED, cost_usd=0.5, result=TaskResult(task_id="t", state=TaskState.COMPLETED, output="kept")
    )
    task_id = bench.submit()
    slot.answer(task_id)
    assert kept == [[told.claims[0].run_id]] * 9
    assert list(bench.tools.journal.entries()) == []
    assert bench.store.tasks.detail(task_id).result.output == "kept"
    assert len(pauses) == 8
    assert pauses == sorted(pauses)
    assert pauses[-1] == max(module._KNOCK_S)


def test_a_store_that_was_reset_leaves_the_result_in_the_journal(
    bench: Any, slot: Slot, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reset(*_a: Any, **_k: Any) -> None:
        raise StoreReset

    monkeypatch.setattr(bench.store.tasks, "end", reset)
    told.meanwhile = started(bench)
    assert not slot.answer(bench.submit())
    assert [entry.run_id for entry in bench.tools.journal.entries()] == [told.claims[0].run_id]


def test_the_result_of_a_run_that_was_superseded_is_dropped_and_lets_nothing_follow(
    bench: Any, slot: Slot, told: Told
) -> None:
    task_id = bench.submit()

    def lose(claim: Claim, _controls: Controls) -> None:
        bench.hand.start(claim)
        bench.store.slots.bury(bench.hand.identity.slot_id, bench.hand.identity.pid)
        bench.hand.reaped(task_id)
        other = type(bench.hand)(bench.store, 1)
        other.run(task_id)

    told.meanwhile = lose
    assert slot.answer(task_id) is False
    assert bench.task(task_id).state is TaskState.RUNNING
    assert list(bench.tools.journal.entries()) == []


def test_a_checkpoint_stops_what_runs_and_nothing_is_begun_after_it(bench: Any, slot: Slot, told: Told) -> None:
    stopped: list[StopCause] = []

    def drain(claim: Claim, controls: Controls) -> None:
        bench.hand.start(claim)
        slot.checkpoint()
        stopped.append(controls.stopped)

    told.meanwhile, told.verdict = drain, Verdict(to=TaskState.PENDING)
    task_id = bench.submit()
    slot.answer(task_id)
    assert stopped == [StopCause.DRAINED]
    assert slot.answer(task_id) is False
    assert len(told.claims) == 1


def test_an_idle_slot_can_be_checkpointed(bench: Any, slot: Slot, told: Told) -> None:
    slot.checkpoint()
    task_id = bench.submit()
    assert slot.answer(task_id) is False
    assert bench.task(task_id).state is TaskState.PENDING


def link_to(task_id: str, **changes: Any) -> Doorbell:
    return Doorbell(task_id=task_id, queue="tasks", priority=2).evolve(**changes)


def test_a_step_lets_celery_ring_the_next_when_its_doorbell_carries_just_that(
    bench: Any, slot: Slot, told: Told
) -> None:
    chain = Chained(bench.store, named("a", "b"))
    told.meanwhile = started(bench)
    assert slot.answer(chain.ids[0], link_to(chain.ids[1])) is True
    assert chain.states() == ["completed", "pending"]
    assert bench.bells.rung == []


@pytest.mark.parametrize("link", ["none", "another", "queue", "priority"])
def test_a_step_whose_doorbell_carries_another_link_or_none_rings_the_next_itself(
    bench: Any, slot: Slot, told: Told, link: str
) -> None:
    chain = Chained(bench.store, named("a", "b", "c"))
    told.meanwhile = started(bench)
    links = {
        "none": None,
        "another": link_to(chain.ids[2]),
        "queue": link_to(chain.ids[1], queue="node.n9"),
        "priority": link_to(chain.ids[1], priority=4),
    }
    assert slot.answer(chain.ids[0], links[link]) is False
    assert [(bell.task_id, bell.then) for bell in bench.bells.rung] == [(chain.ids[1], (chain.ids[2],))]


def test_the_last_step_and_one_that_ends_its_chain_let_nothing_follow(bench: Any, slot: Slot, told: Told) -> None:
    chain = Chained(bench.store, named("a", "b"))
    told.meanwhile, told.verdict = started(bench), Verdict(to=TaskState.FAILED)
    assert slot.answer(chain.ids[0], link_to(chain.ids[1])) is False
    assert chain.states() == ["failed", "skipped"]
    assert bench.bells.rung == []
