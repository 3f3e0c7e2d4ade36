"""What follows a run that was lost, with its slot or by itself: the task's own choice, within its limits."""

from typing import Any

import pytest

from claude_pool.models.options import TaskOptions
from claude_pool.models.run import ExitFacts, RunFacts, StopCause
from claude_pool.models.task import Counters, ErrorCode, ParkedFor, TaskState
from claude_pool.models.verdict import CountsAs, Verdict
from claude_pool.retry import RunContext, judge

E = ErrorCode


def broken(**fields: Any) -> RunFacts:
    """A run that spoke and ended without a result."""
    usual = {"session_id": "s", "saw_init": True, "saw_output": True, "output": "half", "cost_usd": 0.5}
    return RunFacts(**{**usual, **fields})


def decide(facts: RunFacts, options: dict[str, Any] | None = None, **fields: Any) -> Verdict:
    usual = {"task_id": "t-0000000000", "run_id": "r", "counters": Counters(runs=1, attempts=1)}
    return judge(facts, RunContext(options=TaskOptions(**(options or {})), **{**usual, **fields}))


def code_of(verdict: Verdict) -> ErrorCode | None:
    return None if verdict.error is None else verdict.error.code


@pytest.mark.parametrize("exit_", [ExitFacts(signal=9), ExitFacts(signal=11), ExitFacts(code=137), ExitFacts(code=143)])
def test_a_crash_is_counted_and_resumed(exit_: ExitFacts) -> None:
    verdict = decide(broken(exit=exit_))
    assert (code_of(verdict), verdict.to) == (E.CRASHED, TaskState.PENDING)
    assert (verdict.counts_as, verdict.next_kind) == (CountsAs.CRASH, "continuation")


def test_the_third_crash_is_a_dead_letter() -> None:
    verdict = decide(broken(exit=ExitFacts(signal=9)), counters=Counters(attempts=1, crashes=2))
    assert (verdict.to, code_of(verdict), verdict.counts_as) == (TaskState.FAILED, E.DEAD_LETTER, CountsAs.CRASH)
    assert "signal 9" in (verdict.error.message if verdict.error else "")


@pytest.mark.parametrize(
    ("on_lost", "to", "next_kind", "counts_as"),
    [
        ("resume", TaskState.PENDING, "continuation", CountsAs.CRASH),
        ("restart", TaskState.PENDING, "attempt", CountsAs.RESTART),
        ("hold", TaskState.PARKED, "continuation", CountsAs.CRASH),
        ("fail", TaskState.FAILED, "continuation", CountsAs.CRASH),
    ],
)
def test_what_follows_a_crash_is_the_tasks_choice(
    on_lost: str, to: TaskState, next_kind: str, counts_as: CountsAs
) -> None:
    verdict = decide(broken(exit=ExitFacts(signal=9)), {"on_lost": on_lost, "max_attempts": 2})
    assert (verdict.to, verdict.next_kind, verdict.counts_as) == (to, next_kind, counts_as)
    assert verdict.parked_for is (ParkedFor.HOLD if on_lost == "hold" else None)


@pytest.mark.parametrize(("on_lost", "limit"), [("restart", "max_attempts is 1"), ("resume", "max_continuations is 5")])
def test_after_a_crash_the_limits_hold_as_well(on_lost: str, limit: str) -> None:
    counters = Counters(attempts=1, continuations=5)
    verdict = decide(broken(exit=ExitFacts(signal=9)), {"on_lost": on_lost, "max_attempts": 1}, counters=counters)
    assert verdict.to is TaskState.FAILED
    assert limit in (verdict.error.message if verdict.error else "")


@pytest.mark.parametrize("on_lost", ["restart", "resume"])
def test_a_crash_without_a_repeat_left_is_still_a_crash(on_lost: str) -> None:
    counters = Counters(attempts=1, continuations=5)
    assert (
        decide(broken(exit=ExitFacts(signal=9)), {"on_lost": on_lost, "max_attempts": 1}, counters=counters).counts_as
        is CountsAs.CRASH
    )


@pytest.mark.parametrize(
    ("on_lost", "to", "next_kind", "counts_as"),
    [
        ("resume", TaskState.PENDING, "continuation", CountsAs.CONTINUATION),
        ("restart", TaskState.PENDING, "attempt", CountsAs.ATTEMPT),
        ("hold", TaskState.PARKED, "continuation", CountsAs.NOTHING),
        ("fail", TaskState.FAILED, "continuation", CountsAs.NOTHING),
    ],
)
def test_a_run_whose_lease_was_lost_follows_the_tasks_choice_and_is_no_crash(
    on_lost: str, to: TaskState, next_kind: str, counts_as: CountsAs
) -> None:
    verdict = decide(broken(stopped=StopCause.FENCED), {"on_lost": on_lost, "max_attempts": 2})
    assert (verdict.to, verdict.next_kind, verdict.counts_as) == (to, next_kind, counts_as)
    assert (code_of(verdict), verdict.parked_for) == (E.LOST, ParkedFor.HOLD if on_lost == "hold" else None)


def test_a_crash_before_the_model_spoke_begins_afresh() -> None:
    verdict = decide(
        broken(exit=ExitFacts(signal=9), saw_init=False, saw_output=False, session_id=None), session_id="s"
    )
    assert (verdict.next_kind, verdict.counts_as, verdict.session_id) == ("attempt", CountsAs.CRASH, "s")


def test_a_continuation_that_crashed_at_once_keeps_its_session() -> None:
    facts = broken(exit=ExitFacts(signal=9), saw_init=False, saw_output=False, session_id=None)
    verdict = decide(facts, kind="continuation", session_id="s")
    assert (verdict.next_kind, verdict.session_id) == ("continuation", "s")
