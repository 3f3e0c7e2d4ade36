"""Single tasks: submit, get, wait, run, stream, cancel, list."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import Field, ValidationError

from claude_pool.desks.base import Desk
from claude_pool.errors import InvalidRequest, NotFound
from claude_pool.ids import kind_of
from claude_pool.keys import QUEUE
from claude_pool.models.base import Record, explain
from claude_pool.models.events import LogEntry
from claude_pool.models.graph import Whole
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import Task, TaskDetail, TaskRequest, TaskResult, TaskState
from claude_pool.store.base import Doorbell, Page, Submitted, TaskFilter

ACTIVE = (TaskState.BLOCKED, TaskState.PENDING, TaskState.CLAIMED, TaskState.RUNNING, TaskState.PARKED,
          TaskState.PENDING_REVIEW)  # fmt: skip
"""States that a cancel can still end."""

OUTAGE_S = 60.0
"""How long somebody who waits anyway waits for a store that does not answer."""

_LOOK_AGAIN_S = 30.0
"""A waiter looks at the store this often even without news: an event stream that was trimmed must not strand it."""


class Waited(Record):
    """What a wait brought. It consumes nothing: the same wait may be asked again and answers the same.

    `cursor` stands behind everything seen; given as `after` to the next wait it leaves out what had finished by then.
    """

    finished: tuple[Task, ...] = ()
    running: tuple[str, ...] = Field(default=(), description="ids that are not settled yet")
    cursor: str = ""
    timed_out: bool = False


class TaskDesk(Desk):
    """The verbs for single tasks."""

    def request(
        self,
        prompt: str,
        options: TaskOptions | None = None,
        *,
        idempotency_key: str | None = None,
        title: str = "",
        **fields: Any,
    ) -> TaskRequest:
        """A checked request, ready for `submit_many`. Raises InvalidRequest and names what is wrong."""
        merged = self._options(options, fields)
        try:
            return TaskRequest(
                prompt=prompt,
                options=merged,
                idempotency_key=idempotency_key,
                title=title,
                submitter=self.submitter,
            )
        except ValidationError as error:
            raise InvalidRequest(explain(error)) from None

    def submit(
        self,
        prompt: str,
        options: TaskOptions | None = None,
        *,
        idempotency_key: str | None = None,
        title: str = "",
        **fields: Any,
    ) -> Submitted:
        """Hand in one task and return at once. Loose fields are those of TaskOptions.

        Once this returns, the task is durable. With an idempotency key, a repeated call gives the same task. Raises
        InvalidRequest, KeyReused, BudgetRefused, PoolDrained, Unreachable.
        """
        return self.submit_many(
            [self.request(prompt, options, idempotency_key=idempotency_key, title=title, **fields)]
        )[0]

    def submit_many(self, requests: Sequence[TaskRequest]) -> list[Submitted]:
        """Hand in many tasks in one round trip; answers in the same order."""
        answers = self.store.tasks.submit(requests, queue=QUEUE)
        self._ring(
            [
                Doorbell(task_id=answer.task_id, queue=QUEUE, priority=request.options.priority)
                for request, answer in zip(requests, answers, strict=True)
                if answer.state is TaskState.PENDING and answer.created
            ]
        )
        return answers

    def get(self, task_id: str) -> Task:
        """The task, chain or fan-out as it is now. Raises NotFound."""
        return self._many([task_id])[task_id]

    def _many(self, ids: Collection[str]) -> dict[str, Task]:
        """All of these, chains and fan-outs in the words of tasks. Raises NotFound."""
        wholes = [id_ for id_ in ids if kind_of(id_) in {"chain", "fan-out"}]
        found = self.store.tasks.get_many([id_ for id_ in ids if id_ not in wholes])
        found |= {id_: whole.as_task() for id_, whole in self.store.graph.get_many(wholes).items()}
        if missing := [id_ for id_ in ids if id_ not in found]:
            kind = kind_of(missing[0]) or "task"
            raise NotFound(f"There is no {kind} {', '.join(missing)}.", hint="`list` shows which tasks there are.")
        return {id_: found[id_] for id_ in ids}

    def detail(self, task_id: str) -> TaskDetail:
        """The task with its prompt, every run, and its result. Raises NotFound."""
        return self.store.tasks.detail(task_id)

    def result(self, task_id: str) -> TaskResult:
        """What came back. Of a task that still runs: its state, and what is known so far. Raises NotFound."""
        detail = self.store.tasks.detail(task_id)
        task = detail.task
        if detail.result is not None:
            return detail.result.evolve(state=task.state, cost_usd=task.cost_usd, branch_note=task.branch_note)
        return TaskResult(task_id=task.id, state=task.state, error=task.error, cost_usd=task.cost_usd, partial=True,
                          session_id=task.session_id, run_id=task.run_id, node=task.node)  # fmt: skip

    def list(
        self,
        *,
        states: Iterable[TaskState | str] = (),
        tags: Iterable[str] = (),
        submitter: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page:
        """Tasks, newest first."""
        try:
            wanted = TaskFilter(states=tuple(TaskState(state) for state in states), tags=tuple(tags),
                                submitter=submitter, limit=limit, after=after)  # fmt: skip
        except ValueError as error:
            raise InvalidRequest(f"{error}; states are {', '.join(TaskState)}.") from None
        return self.store.tasks.list(wanted)

    def wait(
        self,
        ids: Collection[str],
        *,
        until: Literal["any", "all"] = "all",
        after: str | None = None,
        timeout_s: float | None = None,
    ) -> Waited:
        """Wait until any or all of these tasks, chains and fan-outs are settled: final, or waiting for somebody to act.

        Driven by events, never by sleeping. Raises NotFound for an unknown id; running out of time is no error. An
        outage of the store is waited out for a minute before it is one.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self.hub.inbox(ids) as inbox:
            while True:
                waited = self.look(ids, after=after, patience_s=OUTAGE_S)
                left = None if deadline is None else deadline - time.monotonic()
                if not waited.running or (until == "any" and waited.finished):
                    return waited
                if left is not None and left <= 0:
                    return waited.evolve(timed_out=True)
                inbox.take(_LOOK_AGAIN_S if left is None else min(left, _LOOK_AGAIN_S))

    def look(self, ids: Collection[str], *, after: str | None = None, patience_s: float = 0.0) -> Waited:
        """What a wait would say now; with patience, an outage of the store is waited out that long."""
        return self._patiently(lambda: self._look(ids, after), patience_s)

    def _look(self, ids: Collection[str], after: str | None) -> Waited:
        cursor = self.store.events.head()
        tasks = self._many(ids)
        settled = [task for task in tasks.values() if task.settled]
        return Waited(
            finished=tuple(task for task in settled if after is None or _later(task.event_id, after)),
            running=tuple(task.id for task in tasks.values() if not task.settled),
            cursor=cursor,
        )

    def run(self, prompt: str, options: TaskOptions | None = None, *, wait_s: float | None = None,
            **fields: Any) -> TaskResult:  # fmt: skip
        """Submit one task and wait for its result; a failed task is a result, too: look at its state.

        After `wait_s` the result so far comes back with the state it has; the task goes on.
        """
        task_id = self.submit(prompt, options, **fields).task_id
        self.wait([task_id], timeout_s=wait_s)
        return self.result(task_id)

    def stream(self, task_id: str, *, after: str = "", follow: bool = True) -> Iterator[LogEntry]:
        """The task's log from its beginning, and then live until it is settled. Raises NotFound."""
        task = self.store.tasks.get(task_id)
        return self._lines(task, after=after, follow=follow)

    def _lines(self, task: Task, *, after: str, follow: bool) -> Generator[LogEntry]:
        patience_s = OUTAGE_S if follow else 0.0
        with self.hub.inbox([task.id]):
            while True:
                settled, entries = self._patiently(partial(self._more_lines, task.id, after, follow=follow), patience_s)
                yield from entries
                after = entries[-1].id if entries else after
                if not entries and (settled or not follow):
                    return

    def _more_lines(self, task_id: str, after: str, *, follow: bool) -> tuple[bool, list[LogEntry]]:
        """Whether the task was settled before we looked, and the lines after that one."""
        settled = self.store.tasks.get(task_id).settled
        return settled, self.store.logs.read(task_id, after=after, block_ms=1000 if follow and not settled else None)

    def cancel(self, task_id: str, *, reason: str = "") -> Task:
        """Stop a task for good. A waiting one ends at once; a running one is stopped, its cost and output kept.

        An accepted cancel wins: the task never becomes completed afterwards. Harmless on a final task. A chain or a
        fan-out is stopped as a whole. Raises NotFound.
        """
        reason = reason or "cancelled"
        if kind_of(task_id) not in {"chain", "fan-out"}:
            return self.store.tasks.cancel(task_id, reason=reason)
        self._ring(self.store.graph.cancel(task_id, reason=reason)[1])
        return self.get(task_id)

    def cancel_all(self, *, tags: Iterable[str] = (), reason: str = "") -> list[Task]:
        """Cancel everything that is not final, or only what has all these tags; a chain or a fan-out as a whole.

        Of a chain without these tags only the steps that have them are cancelled.
        """
        cancelled: dict[str, Task] = {}
        wholes: dict[str, Whole] = {}
        wanted = tuple(tags)
        while fresh := self._roots(wanted, wholes) - cancelled.keys():  # again: some may have moved between two looks
            cancelled |= {id_: self.cancel(id_, reason=reason) for id_ in fresh}
        return list(cancelled.values())

    def _roots(self, tags: tuple[str, ...], wholes: dict[str, Whole]) -> set[str]:
        """What is at work now and was not asked to stop: tasks, or the outermost chain or fan-out with these tags."""
        found = set[str]()
        for state in ACTIVE:
            after: str | None = None
            while True:
                page = self.list(states=[state], tags=tags, limit=500, after=after)
                for task in page.tasks:
                    if task.cancel_requested is None:
                        found.add(self._root_of(task, tags, wholes))
                after = page.next
                if after is None:
                    break
        return found

    def _root_of(self, task: Task, tags: tuple[str, ...], wholes: dict[str, Whole]) -> str:
        root, parent = task.id, task.parent
        while parent is not None:
            if parent not in wholes:
                wholes[parent] = self.store.graph.get(parent)
            whole = wholes[parent]
            root = whole.id if set(tags) <= set(whole.tags) else root
            parent = whole.parent
        return root

    def hold(self, task_id: str, *, reason: str = "") -> Task:
        """Keep a pending task from starting until `wake`. Raises Conflict when it is not pending."""
        return self.store.tasks.hold(task_id, reason=reason or "held")

    def wake(self, task_id: str) -> bool:
        """Let a parked task try again now. False when it is not parked."""
        bell = self.store.tasks.wake(task_id)
        self._ring([bell] if bell else [])
        return bell is not None


def _later(event_id: str, cursor: str) -> bool:
    """Whether a stream id comes after another; ids are `<milliseconds>-<number>`."""

    def parts(stream_id: str) -> tuple[int, int]:
        ms, _, number = stream_id.partition("-")
        return int(ms or 0), int(number or 0)

    return parts(event_id) > parts(cursor)
