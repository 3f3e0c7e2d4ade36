"""The checker on chains and fan-outs written by hand: a good one passes, and each lie in it is found."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from chaosrig.history import History, Submission
from chaosrig.joins import check_joins

from claude_pool.models.events import TaskEvent
from claude_pool.models.graph import Whole
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import Counters, Task, TaskDetail, TaskResult, TaskState
from claude_pool.testing.ledger import Execution

S = TaskState
CHAIN, FAN = "c-1", "f-1"
A, B, LEFT, RIGHT, GATHER = "t-a", "t-b", "t-l", "t-r", "t-g"

MOVES = [
    ("start", CHAIN, S.BLOCKED, S.RUNNING),
    ("unblock", A, S.BLOCKED, S.PENDING),
    ("complete", A, S.RUNNING, S.COMPLETED),
    ("start", FAN, S.BLOCKED, S.RUNNING),
    ("unblock", LEFT, S.BLOCKED, S.PENDING),
    ("unblock", RIGHT, S.BLOCKED, S.PENDING),
    ("complete", LEFT, S.RUNNING, S.COMPLETED),
    ("complete", RIGHT, S.RUNNING, S.COMPLETED),
    ("unblock", GATHER, S.BLOCKED, S.PENDING),
    ("complete", GATHER, S.RUNNING, S.COMPLETED),
    ("complete", FAN, S.RUNNING, S.COMPLETED),
    ("unblock", B, S.BLOCKED, S.PENDING),
    ("complete", B, S.RUNNING, S.COMPLETED),
    ("complete", CHAIN, S.RUNNING, S.COMPLETED),
]
TIMES = {A: (1, 2), LEFT: (3, 5), RIGHT: (4, 6), GATHER: (7, 8), B: (9, 10)}


def event(verb: str, subject: str, was: S | None, state: S | None) -> TaskEvent:
    return TaskEvent(id="1-0", at_ms=1, verb=verb, subject=subject, was=was, state=state)


def detail(task_id: str) -> TaskDetail:
    task = Task(
        id=task_id,
        state=S.COMPLETED,
        title="x",
        options=TaskOptions(),
        created_ms=1,
        since_ms=1,
        queue="tasks",
        counters=Counters(),
    )
    result = TaskResult(task_id=task_id, state=S.COMPLETED, output=f"said by {task_id}")
    return TaskDetail(task=task, prompt="x", result=result, runs=())


def good() -> History:
    """A step, a fan-out of two with its gather, a step."""
    return History(
        seed=0,
        graphs=[Submission("k", "unknown"), Submission("k", "ok", CHAIN)],
        answers={"k": f"said by {B}"},
        events=[event(*move) for move in MOVES],
        tasks={id_: detail(id_) for id_ in TIMES},
        executions=[
            Execution(id_, f"run of {id_}", 1, start, end, ended=True, outcome="success", cost_usd=0)
            for id_, (start, end) in TIMES.items()
        ],
        wholes={
            CHAIN: Whole(id=CHAIN, state=S.COMPLETED, children=(A, FAN, B), total=3, ended=3),
            FAN: Whole(
                id=FAN, state=S.COMPLETED, parent=CHAIN, children=(LEFT, RIGHT), gather=GATHER, total=2, ended=2
            ),
        },
    )


def found(history: History) -> set[str]:
    return {violation[0] for violation in check_joins(history, {one.task: [one] for one in history.executions})}


def swap(history: History, first: int, second: int) -> None:
    history.events[first], history.events[second] = history.events[second], history.events[first]


def executed(history: History, task_id: str, start_s: float) -> None:
    at = next(n for n, one in enumerate(history.executions) if one.task == task_id)
    history.executions[at] = replace(history.executions[at], start_s=start_s)


def state(history: History, whole_id: str, to: S) -> None:
    history.wholes[whole_id] = history.wholes[whole_id].evolve(state=to)


def child(history: History, task_id: str, to: S) -> None:
    known = history.tasks[task_id]
    history.tasks[task_id] = known.evolve(task=known.task.evolve(state=to))


LIES: dict[str, tuple[str, Callable[[History], object]]] = {
    "a step begins before the one before has ended": ("order", lambda h: swap(h, 2, 3)),
    "a gather begins before its last branch has ended": ("order", lambda h: swap(h, 7, 8)),
    "a step is executed while the fan-out before it still is": ("order", lambda h: executed(h, B, 7.5)),
    "a gather is executed while a branch still is": ("order", lambda h: executed(h, GATHER, 5.5)),
    "a gather comes twice": ("joins", lambda h: h.events.insert(9, h.events[8])),
    "a step is executed whose turn never came": ("joins", lambda h: h.events.pop(11)),
    "a chain ends twice": ("joins", lambda h: h.events.append(h.events[-1])),
    "a fan-out completes without a branch": ("joins", lambda h: child(h, LEFT, S.FAILED)),
    "a chain fails and nobody in it did": ("joins", lambda h: state(h, CHAIN, S.FAILED)),
    "a chain is cancelled that nobody cancelled": ("joins", lambda h: state(h, CHAIN, S.CANCELLED)),
    "a cancelled chain completes": ("joins", lambda h: h.events.insert(5, event("cancel", CHAIN, None, None))),
    "a chain never ends": ("no_loss", lambda h: state(h, CHAIN, S.RUNNING)),
    "an acknowledged chain is gone": ("no_loss", lambda h: h.graphs.append(Submission("q", "ok", "c-2"))),
    "one key, two chains": ("idempotent", lambda h: h.graphs.append(Submission("k", "ok", FAN))),
    "a chain nobody asked for": ("idempotent", lambda h: h.graphs.clear()),
    "a step is missing in the answer": ("results", lambda h: h.answers.update(k="said by somebody else")),
}


def test_a_good_history_passes() -> None:
    assert found(good()) == set()


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_a_chain_or_a_fan_out_is_found(lie: str) -> None:
    invariant, tell = LIES[lie]
    history = good()
    tell(history)
    assert invariant in found(history), f"{lie}: found only {found(history)}"


def test_a_chain_that_waits_for_somebody_is_not_lost() -> None:
    history = good()
    history.wholes[CHAIN] = history.wholes[CHAIN].evolve(state=S.RUNNING, waiting=S.PARKED)
    assert "no_loss" not in found(history)
