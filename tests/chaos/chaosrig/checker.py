"""The checker: a history in, violations and counts out. Pure, one pass per witness, no mercy for missing evidence.

no_loss        every task that was promised to a client ends, or is parked with a reason and no time
no_phantom     nothing was executed that was not claimed and durably started before
no_overlap     at most one execution of a task at any moment
repeats        every further execution has a cause on the stream between; fresh paid ones only as allowed
fenced         a result is taken only as that of the run it comes from
one_verdict    a final state is reached once and never left
legal          every task's events are a path of the lifecycle; the record agrees with its last one
idempotent     one key, one task, whatever was repeated
money          each run is settled once, exactly where its cost is known; the ledger adds up; no limit was passed
results        a completed task gives its own answer
order, joins   chains and fan-outs go on as they must: see `joins`
nothing_left   no lease, busy slot, doorbell, process or file remains
progress       work was done, and all along: a pool that refuses everything would pass the rest
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from chaosrig.history import History
from chaosrig.joins import check_joins
from chaosrig.money import check_money
from claude_pool.lifecycle import BORN_AS, Verb, may
from claude_pool.models.events import TaskEvent
from claude_pool.models.task import Task, TaskState
from claude_pool.testing.ledger import Execution

CAUSES = frozenset({"lose", "retry", "park", "reject"})
"""Events after which a task that was executed may be executed again."""
EARLY_S = 0.005
"""Two clocks of one host, read one after the other, may differ by so much."""
WINDOWS = 4

_LOST_TO: dict[str, set[TaskState]] = {
    "resume": {TaskState.PENDING, TaskState.CANCELLED},
    "restart": {TaskState.PENDING, TaskState.CANCELLED},
    "hold": {TaskState.PARKED, TaskState.CANCELLED},
    "fail": {TaskState.FAILED, TaskState.CANCELLED},
}
"""Where a lost run may send its task, by `on_lost`; a limit of repeats that is reached ends it in any case."""

Found = Iterator[tuple[str, str, str]]
"""Invariant, subject, what is wrong."""


@dataclass(frozen=True, slots=True)
class Violation:
    invariant: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.subject}: {self.text}"


@dataclass(slots=True)
class Report:
    """What the checker says of one history."""

    seed: int
    violations: list[Violation] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.violations

    def __str__(self) -> str:
        told = "  ".join(f"{name} {number:,}" for name, number in self.counts.items())
        broken = "\n".join(f"  {violation}" for violation in self.violations[:40])
        return f"seed {self.seed}: {len(self.violations)} violations\n  {told}" + (f"\n{broken}" if broken else "")


@dataclass(slots=True)
class Life:
    """One task's events in order, and what they say about its runs."""

    moves: list[TaskEvent] = field(default_factory=list)
    asked: list[TaskEvent] = field(default_factory=list)
    claims: dict[str, int] = field(default_factory=dict)
    starts: dict[str, TaskEvent] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    """Runs whose slot died under them; one that gave up by itself when its lease ran out is no crash."""

    def add(self, event: TaskEvent) -> None:
        if event.state is None:
            self.asked.append(event)
            return
        if event.verb == "claim" and event.run_id:
            self.claims[event.run_id] = len(self.moves)
        elif event.verb == "start" and event.run_id:
            self.starts[event.run_id] = event
        elif event.verb == "lose" and event.was is TaskState.RUNNING and event.run_id:
            self.lost.add(event.run_id)
        self.moves.append(event)


def check(history: History) -> Report:
    """Hold one history against every invariant."""
    lives: defaultdict[str, Life] = defaultdict(Life)
    for event in history.events:
        if event.subject in history.tasks or (event.verb == "submit" and event.subject.startswith("t-")):
            lives[event.subject].add(event)
    by_task: defaultdict[str, list[Execution]] = defaultdict(list)
    for execution in sorted(history.executions, key=lambda one: one.start_s):
        by_task[execution.task].append(execution)
    found = [
        *_whole(history),
        *_no_loss(history),
        *_idempotent(history, lives),
        *(one for task_id in history.tasks for one in _legal(history, task_id, lives[task_id])),
        *(one for task_id, executions in by_task.items() for one in _executed(history, lives[task_id], executions)),
        *check_money(history, by_task),
        *check_joins(history, by_task),
        *_results(history),
        *_fenced(history),
        *(("nothing_left", name, f"{len(ids)}: {ids[:5]}") for name, ids in history.left.items() if ids),
        *_progress(history),
    ]
    report = Report(history.seed, [Violation(*one) for one in found])
    report.counts = _counts(history, lives, by_task, report)
    return report


def _whole(history: History) -> Found:
    if len(history.events) != history.events_added:
        yield "evidence", "events", f"{history.events_added} were added, {len(history.events)} were read"


def _no_loss(history: History) -> Found:
    for submission in history.submissions:
        if submission.outcome == "ok" and submission.task_id not in history.tasks:
            yield "no_loss", submission.task_id, "acknowledged, and not in the store"
    for task_id, detail in history.tasks.items():
        task = detail.task
        if not task.settled:
            yield "no_loss", task_id, f"never ended: {task.state} {task.parked_for or ''} until {task.until_ms}"
        elif task.state is TaskState.PARKED and task.parked_for is None:
            yield "no_loss", task_id, "parked without a reason"
        elif task.state.final and detail.result is None:
            yield "no_loss", task_id, "final without a result"


def _idempotent(history: History, lives: dict[str, Life]) -> Found:
    by_key: defaultdict[str, set[str]] = defaultdict(set)
    for submission in history.submissions:
        if submission.outcome == "ok":
            by_key[submission.key].add(submission.task_id)
    owners = Counter(task_id for ids in by_key.values() for task_id in ids)
    for key, ids in by_key.items():
        if len(ids) > 1:
            yield "idempotent", key, f"one key, {len(ids)} tasks: {sorted(ids)}"
    for task_id, number in owners.items():
        if number > 1:
            yield "idempotent", task_id, f"one task for {number} keys"
    unanswered = {one.key for one in history.submissions if one.outcome == "unknown"} - set(by_key)
    unexplained = {id_ for id_, detail in history.tasks.items() if detail.task.parent is None} - set(owners)
    if len(unexplained) > len(unanswered):
        yield "idempotent", min(unexplained), f"{len(unexplained)} tasks that nobody asked for"
    for task_id in set(lives) - set(history.tasks):
        yield "no_loss", task_id, "was submitted, and is not in the store"


def _legal(history: History, task_id: str, life: Life) -> Found:
    if life.moves:
        yield from _Walk(history.task(task_id), life).walk()
    yield from _asked(task_id, life)


class _Walk:
    """One task's moves, one after the other, against the table."""

    def __init__(self, task: Task, life: Life) -> None:
        self._task = task
        self._life = life
        self._state: TaskState | None = None
        self._run_id: str | None = None
        self._lost: set[str | None] = set()

    def walk(self) -> Found:
        for event in self._life.moves:
            for found in (self._from(event), self._by(event), self._loss(event)):
                for invariant, text in found:
                    yield invariant, self._task.id, text
            self._state = event.state
        ends = sum(event.state.final for event in self._life.moves if event.state)
        if ends > 1:
            yield "one_verdict", self._task.id, f"{ends} final events"
        if self._state is not self._task.state:
            yield "legal", self._task.id, f"its last event says {self._state}, its record {self._task.state}"

    def _from(self, event: TaskEvent) -> Iterator[tuple[str, str]]:
        """Where it was, where it went."""
        was, to = self._state, event.state
        assert to is not None
        if event.verb == "submit":
            if was is not None or to not in BORN_AS:
                yield "legal", f"submit from {was} to {to}"
        elif was is None or event.was is not was or not may(Verb(event.verb), was, to):
            yield "legal", f"{event.verb} from {event.was} (it was {was}) to {to}"
        if was is not None and was.final:
            yield "one_verdict", f"{event.verb} to {to} after it was {was}"

    def _by(self, event: TaskEvent) -> Iterator[tuple[str, str]]:
        """Whose move it was."""
        if event.verb == "claim":
            if event.run_id in self._life.claims and self._life.moves[self._life.claims[event.run_id]] is not event:
                yield "legal", f"run {event.run_id} was claimed twice"
            self._run_id = event.run_id
        elif event.verb in {"start", "complete", "retry", "review"} and event.run_id != self._run_id:
            yield "legal", f"{event.verb} by run {event.run_id}, but {self._run_id} had the task"
        if event.verb == "complete" and self._state is not TaskState.RUNNING and event.run_id not in self._lost:
            yield "legal", f"completed from {self._state} by a run that was not lost"

    def _loss(self, event: TaskEvent) -> Iterator[tuple[str, str]]:
        """A lost run sends its task where its policy says."""
        if event.verb != "lose":
            return
        self._lost.add(event.run_id)
        policy = self._task.options.on_lost
        allowed = event.state in _LOST_TO[policy] or _ended_by_limit(event, policy)
        if self._state is TaskState.RUNNING and not allowed:
            yield "legal", f"lost, and {event.state} although its policy is {policy}"


def _ended_by_limit(event: TaskEvent, policy: str) -> bool:
    used_up = policy in {"resume", "restart"} and "no repeat left" in event.reason
    return event.state is TaskState.FAILED and ("limit of" in event.reason or used_up)


def _asked(task_id: str, life: Life) -> Found:
    """Whoever was asked to stop ends cancelled, whatever its run said."""
    state = life.moves[-1].state if life.moves else None
    if life.asked and state is not TaskState.CANCELLED:
        yield "legal", task_id, f"a cancel was accepted, and it ended {state}"


def _executed(history: History, life: Life, executions: list[Execution]) -> Found:
    task_id = executions[0].task
    if task_id not in history.tasks:
        yield "no_phantom", task_id, "executed, and not in the store"
        return
    yield from _started(history, life, executions)
    for first, second in combinations(executions, 2):
        if first.overlaps(second):
            yield "no_overlap", task_id, f"runs {first.run} and {second.run} at the same time"
    for first, second in pairwise(executions):
        between = life.moves[life.claims.get(first.run, 0) : life.claims.get(second.run, 0)]
        if not any(event.verb in CAUSES for event in between):
            yield "repeats", task_id, f"run {second.run} repeats {first.run} without a cause"
    yield from _afresh(history, life, executions)


def _started(history: History, life: Life, executions: list[Execution]) -> Found:
    """Claimed and durably started before, and executed once."""
    for one in executions:
        started = life.starts.get(one.run)
        if one.run not in life.claims or started is None:
            yield "no_phantom", one.task, f"run {one.run} was executed without claim and start"
        elif one.start_s + history.clock_offset_s < started.at_ms / 1000 - EARLY_S:
            yield "no_phantom", one.task, f"run {one.run} was executed before its start was durable"
    for run, number in Counter(one.run for one in executions).items():
        if number > 1:
            yield "repeats", executions[0].task, f"run {run} was executed {number} times"


def _afresh(history: History, life: Life, executions: list[Execution]) -> Found:
    """Fresh starts that were paid for are within the task's attempts, and every counter within its limit."""
    task_id = executions[0].task
    detail = history.tasks[task_id]
    kinds = {run.run_id: run.kind for run in detail.runs}
    paid = sum(kinds.get(one.run) == "attempt" and one.cost_usd > 0 for one in executions)
    options, counters = detail.task.options, detail.task.counters
    died = sum(run.outcome in {"crashed", "dead_letter"} or run.run_id in life.lost for run in detail.runs)
    if died > options.max_crashes:
        yield "repeats", task_id, f"{died} of its runs died, after {options.max_crashes} it has to end"
    if paid > options.max_attempts:
        yield "repeats", task_id, f"{paid} paid fresh starts, {options.max_attempts} are allowed"
    for name in ("attempts", "continuations", "infra_retries", "crashes"):
        most = getattr(options, f"max_{name}") + (name == "infra_retries")
        if getattr(counters, name) > most:
            yield "repeats", task_id, f"{getattr(counters, name)} {name}, {most} are allowed"


def _fenced(history: History) -> Found:
    for report in history.reports:
        if report.taken_as not in {None, report.run_id}:
            yield "fenced", report.task_id, f"the result of {report.run_id} was taken for one of {report.taken_as}"


def _results(history: History) -> Found:
    for submission in history.submissions:
        detail = history.tasks.get(submission.task_id)
        wanted = history.answers.get(submission.key)
        if wanted is None or detail is None or detail.task.state is not TaskState.COMPLETED:
            continue
        given = detail.result.output if detail.result else None
        if given != wanted:
            yield "results", submission.task_id, f"answered {str(given)[:80]!r} instead of {wanted[:80]!r}"


def _progress(history: History) -> Found:
    done = [event.at_ms for event in history.events if event.verb == "complete"]
    if not done:
        yield "progress", "pool", "nothing was completed"
    elif len(done) >= 100:
        first, last = min(done), max(done)
        width = (last - first) / WINDOWS or 1
        windows = Counter(min(int((at - first) / width), WINDOWS - 1) for at in done)
        for window in range(WINDOWS):
            if not windows[window]:
                yield "progress", "pool", f"nothing was completed in quarter {window + 1} of the run"


def _counts(
    history: History, lives: dict[str, Life], by_task: dict[str, list[Execution]], report: Report
) -> dict[str, int]:
    states = Counter(str(detail.task.state) for detail in history.tasks.values())
    broken = Counter(violation.invariant for violation in report.violations)
    repeated = sum(len(executions) - 1 for executions in by_task.values())
    recovered = sum(
        bool(life.moves) and life.moves[-1].state is TaskState.COMPLETED and any(e.verb == "lose" for e in life.moves)
        for life in lives.values()
    )
    outcomes = Counter(one.outcome for one in history.submissions)
    return {
        "tasks": len(history.tasks),
        "graphs": len(history.wholes),
        "acknowledged": outcomes["ok"],
        "unanswered": outcomes["unknown"],
        **{state: states[state] for state in ("completed", "failed", "cancelled", "parked")},
        "lost": broken["no_loss"],
        "duplicated": broken["repeats"],
        "overlapping": broken["no_overlap"],
        "recovered": recovered,
        "executions": len(history.executions),
        "repeated_with_cause": repeated - broken["repeats"],
        "died": sum(not one.ended for one in history.executions),
        "events": len(history.events),
        "faults": len(history.faults),
    }
