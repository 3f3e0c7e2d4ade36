"""The checker by itself, on histories written by hand: a good one passes, and each lie in it is found."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from chaosrig.checker import Report, check
from chaosrig.history import History, Money, Submission
from chaosrig.history import Report as Told

from claude_pool.models.events import TaskEvent
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import Counters, RunRecord, Task, TaskDetail, TaskResult, TaskState
from claude_pool.testing.ledger import Execution

S = TaskState
ID = "t-0000000001"


def event(number: int, verb: str, was: S | None, state: S | None, run: str | None = None) -> TaskEvent:
    return TaskEvent(
        id=f"{number}-0", at_ms=1_000 * number, verb=verb, subject=ID, state=state, was=was, run_id=run, reason=""
    )


def run(number: int, outcome: str, cost: float, *, estimated: bool = False) -> RunRecord:
    kind = "attempt" if number == 1 else "continuation"
    return RunRecord(
        run_id=f"r{number}",
        number=number,
        kind=kind,
        slot="slot-0@n",
        node="n",
        claimed_ms=1,
        started_ms=2,
        ended_ms=3,
        outcome=outcome,
        cost_usd=cost,
        cost_estimated=estimated,
    )


def execution(number: int, start: float, end: float, *, ended: bool, cost: float) -> Execution:
    return Execution(
        ID, f"r{number}", number, start, end, ended=ended, outcome="success" if ended else None, cost_usd=cost
    )


def good() -> History:
    """One task whose first run is lost and whose second one completes it."""
    moves = [
        ("submit", None, S.PENDING, None),
        ("claim", S.PENDING, S.CLAIMED, "r1"),
        ("start", S.CLAIMED, S.RUNNING, "r1"),
        ("lose", S.RUNNING, S.PENDING, "r1"),
        ("claim", S.PENDING, S.CLAIMED, "r2"),
        ("start", S.CLAIMED, S.RUNNING, "r2"),
        ("complete", S.RUNNING, S.COMPLETED, "r2"),
    ]
    task = Task(
        id=ID,
        state=S.COMPLETED,
        title="x",
        options=TaskOptions(),
        created_ms=1,
        since_ms=1,
        queue="tasks",
        counters=Counters(runs=2, attempts=1, continuations=1, crashes=1),
        run_id="r2",
        cost_usd=0.5,
    )
    result = TaskResult(task_id=ID, state=S.COMPLETED, output="answer", cost_usd=0.5)
    detail = TaskDetail(
        task=task, prompt="x", result=result, runs=(run(1, "lost", 0.2, estimated=True), run(2, "completed", 0.3))
    )
    return History(
        seed=0,
        submissions=[Submission("k", "unknown"), Submission("k", "ok", ID)],
        answers={"k": "answer"},
        reports=[Told(ID, "r2", "r2"), Told(ID, "r1", None)],
        events=[event(number, *move) for number, move in enumerate(moves, 1)],
        events_added=len(moves),
        executions=[execution(1, 3.5, 4.0, ended=False, cost=0.1), execution(2, 6.5, 7.0, ended=True, cost=0.3)],
        tasks={ID: detail},
        samples=[Money(None, 0, 200_000)],
        end=Money(None, 0, 500_000),
        left={"leases": []},
    )


def test_a_good_history_passes_and_is_counted() -> None:
    report = check(good())
    assert report.ok, str(report)
    assert (report.counts["recovered"], report.counts["repeated_with_cause"], report.counts["died"]) == (1, 1, 1)
    assert "0 violations" in str(report)


def _task(history: History, **changes: object) -> None:
    detail = history.tasks[ID]
    history.tasks[ID] = detail.evolve(task=detail.task.evolve(**changes))


def _runs(history: History, *runs: RunRecord) -> None:
    history.tasks[ID] = history.tasks[ID].evolve(runs=runs)


def _execution(history: History, index: int, **changes: object) -> None:
    history.executions[index] = replace(history.executions[index], **changes)  # type: ignore[arg-type]


def _no_cause(history: History) -> None:
    history.events[3] = event(4, "release", S.CLAIMED, S.PENDING, "r1")


LIES: dict[str, tuple[str, Callable[[History], object]]] = {
    "an acknowledged task is gone": ("no_loss", lambda h: h.submissions.append(Submission("q", "ok", "t-0000000002"))),
    "a task never ended": ("no_loss", lambda h: _task(h, state=S.PENDING)),
    "a task waits for a time that has passed": (
        "no_loss",
        lambda h: _task(h, state=S.PARKED, until_ms=1, parked_for="retry"),
    ),
    "a run nobody claimed": ("no_phantom", lambda h: _execution(h, 1, run="r9")),
    "a run before its start": ("no_phantom", lambda h: _execution(h, 1, start_s=5.9)),
    "a task nobody knows was run": ("no_phantom", lambda h: _execution(h, 1, task="t-0000000009")),
    "two at a time": ("no_overlap", lambda h: _execution(h, 0, seen_s=6.6)),
    "a repeat without a cause": ("repeats", _no_cause),
    "one run twice": ("repeats", lambda h: h.executions.append(execution(2, 7.1, 7.2, ended=True, cost=0.3))),
    "paid afresh": (
        "repeats",
        lambda h: _runs(h, run(1, "lost", 0.2, estimated=True), run(2, "completed", 0.3).evolve(kind="attempt")),
    ),
    "more crashes than allowed": (
        "repeats",
        lambda h: _task(h, options=TaskOptions(max_crashes=1), counters=Counters(runs=2, attempts=1, crashes=2)),
    ),
    "two verdicts": ("one_verdict", lambda h: h.events.append(event(8, "fail", S.COMPLETED, S.FAILED, "r2"))),
    "a step is missing": ("legal", lambda h: h.events.pop(4)),
    "the record disagrees": ("legal", lambda h: _task(h, state=S.FAILED)),
    "a cancel that was accepted": ("legal", lambda h: h.events.insert(5, event(5, "cancel", None, None, "r2"))),
    "a stranger's result": (
        "legal",
        lambda h: h.events.__setitem__(6, event(7, "complete", S.RUNNING, S.COMPLETED, "r1")),
    ),
    "one key, two tasks": ("idempotent", lambda h: h.submissions.append(Submission("k", "ok", "t-0000000002"))),
    "a task nobody asked for": ("idempotent", lambda h: h.submissions.clear()),
    "a hole in the evidence": ("evidence", lambda h: setattr(h, "events_added", 9)),
    "past the limit": ("money", lambda h: h.samples.append(Money(400_000, 100_000, 300_001))),
    "still reserved": ("money", lambda h: setattr(h, "end", Money(None, 1, 500_000))),
    "the pool spent more than its tasks": ("money", lambda h: setattr(h, "end", Money(None, 0, 500_001))),
    "a task cost more than its runs": ("money", lambda h: _task(h, cost_usd=0.6)),
    "settled, but not what was paid": ("money", lambda h: _execution(h, 1, cost_usd=0.31)),
    "a death that was settled as known": ("money", lambda h: _runs(h, run(1, "lost", 0.2), run(2, "completed", 0.3))),
    "a known cost marked as a guess": (
        "money",
        lambda h: _runs(h, run(1, "lost", 0.2, estimated=True), run(2, "completed", 0.3, estimated=True)),
    ),
    "a run in the history twice": (
        "money",
        lambda h: _runs(h, run(1, "lost", 0.2, estimated=True), run(2, "completed", 0.15), run(2, "completed", 0.15)),
    ),
    "another task's answer": ("results", lambda h: h.answers.update(k="something else")),
    "a stale result was taken": ("fenced", lambda h: h.reports.append(Told(ID, "r1", "r2"))),
    "a lease is left": ("nothing_left", lambda h: h.left.update(leases=[ID])),
    "nothing was done": ("progress", lambda h: (h.events.clear(), setattr(h, "events_added", 0))),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_in_the_history_is_found(lie: str) -> None:
    invariant, tell = LIES[lie]
    history = good()
    tell(history)
    found = {violation.invariant for violation in check(history).violations}
    assert invariant in found, f"{lie}: found only {found}"


def test_a_report_names_the_seed_and_what_is_wrong() -> None:
    history = good()
    history.seed = 77
    history.left["leases"] = [ID]
    told = str(check(history))
    assert "seed 77: 1 violations" in told
    assert f"nothing_left: leases: 1: ['{ID}']" in told


def test_a_pool_that_stands_still_for_a_while_is_found() -> None:
    history = good()
    done = history.events[-1]
    history.events += [done.model_copy(update={"at_ms": at}) for at in [10_000] * 99 + [100_000] * 10]
    assert any(one.invariant == "progress" for one in check(history).violations)


def test_an_empty_history_is_no_success() -> None:
    report: Report = check(History(seed=1))
    assert [one.invariant for one in report.violations] == ["progress"]
