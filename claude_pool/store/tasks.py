"""Tasks over Redis: submit, claim, start, finish and what else happens to one task; each call is one script."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from claude_pool.config import PoolConfig
from claude_pool.errors import Conflict, KeyReused, NotFound, PoolDrained, PoolError, StoreReset
from claude_pool.ids import new_id, new_run_id
from claude_pool.models.base import to_micros, to_usd
from claude_pool.models.pool import SlotIdentity
from claude_pool.models.task import RunRecord, Task, TaskDetail, TaskRequest, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.store import codec, graph_codec
from claude_pool.store.base import Claim, Doorbell, Ended, Page, RefusedClaim, Submitted, TaskFilter
from claude_pool.store.client import Client

IDEMPOTENCY_DAYS: Final = 7
"""An idempotency key is remembered at least so long, or until its task is forgotten."""
BATCH: Final = 250
"""Tasks stored in one step; some milliseconds of the server's time."""
BATCH_CHARS: Final = 4 << 20
CHUNK: Final = 500
"""Records read in one call."""
SMALL_STATES: Final = 2_000
"""When the wanted states hold no more tasks than this, they are read whole instead of walking all tasks."""


class RedisTasks:
    """`TaskStore` over Redis."""

    def __init__(self, client: Client, config: PoolConfig) -> None:
        self._client = client
        self._config = config

    def submit(self, requests: Sequence[TaskRequest], *, queue: str) -> list[Submitted]:
        """Store new tasks; one that is refused refuses all. Up to `BATCH` of them are one atomic step.

        Of more, what was stored before the refusal is cancelled again: nobody learns these ids.
        """
        answers = self._send([self._new(request, queue) for request in requests])
        if any(_is(answer, "taken") for answer in answers):  # an id met its like: once in 2^50
            self._take_back(answers)
            answers = self._send([self._new(request, queue) for request in requests])
        refused = next((error for answer in answers if (error := _refusal(answer))), None)
        if refused is not None:
            self._take_back(answers)
            raise refused
        return [
            Submitted(task_id=id_, state=TaskState(state), created=created == 1)
            for answer in answers
            for id_, state, created in answer[1:]
        ]

    def _send(self, calls: Iterable[builtins.list[str]]) -> builtins.list[Any]:
        ttl_ms = round(max(IDEMPOTENCY_DAYS, self._config.keep_days) * 86_400_000)
        return self._client.call_many("submit", [[ttl_ms, *batch] for batch in _batches(calls)])

    @staticmethod
    def _new(request: TaskRequest, queue: str) -> builtins.list[str]:
        key = codec.digest(request.idempotency_key) if request.idempotency_key else ""
        fields = codec.new_fields(request, queue=queue)
        return [new_id("t"), key, codec.request_hash(request), str(len(fields)), *fields]

    def _take_back(self, answers: Iterable[Any]) -> None:
        made = [id_ for answer in answers if _is(answer, "done") for id_, _, created in answer[1:] if created]
        self._client.call_many("cancel", [[task_id, "submitted together with a refused request"] for task_id in made])

    def get(self, task_id: str) -> Task:
        found = self.get_many([task_id])
        if task_id not in found:
            raise _no_task(task_id)
        return found[task_id]

    def get_many(self, task_ids: Sequence[str]) -> dict[str, Task]:
        found: dict[str, Task] = {}
        for start in range(0, len(task_ids), CHUNK):
            chunk = task_ids[start : start + CHUNK]
            answers = self._client.call("records", *chunk)
            found |= {id_: codec.task_of(id_, values) for id_, values in zip(chunk, answers, strict=True) if values}
        return found

    def detail(self, task_id: str) -> TaskDetail:
        answer = self._client.call("detail", task_id)
        if not answer:
            raise _no_task(task_id)
        values, (prompt, result, feedback, *run), lines = answer
        task = codec.task_of(task_id, values)
        runs = [codec.run_of(line) for line in lines]
        if task.state in {TaskState.CLAIMED, TaskState.RUNNING}:
            runs.append(codec.current_run(task, *run))
        estimated = int(values[codec.RECORD.index("estimates")] or 0) > 0
        found = codec.result_of(task, result, estimated=estimated)
        said = codec.feedback_of(feedback or "")
        return TaskDetail(task=task, prompt=prompt or "", runs=tuple(runs), result=found, feedback=said)

    def note_branch(self, task_ids: Sequence[str], note: str) -> None:
        if task_ids:
            self._client.call("note_branch", note, *task_ids)

    def runs(self, task_id: str) -> tuple[RunRecord, ...]:
        return self.detail(task_id).runs

    def list(self, wanted: TaskFilter) -> Page:
        ids = self._ids(wanted)
        page = ids[: wanted.limit]
        found = self.get_many(page)
        more = len(ids) > len(page)
        return Page(tasks=tuple(found[id_] for id_ in page if id_ in found), next=page[-1] if more and page else None)

    def _ids(self, wanted: TaskFilter) -> builtins.list[str]:
        """Ids that pass the filter, newest first: a page and one more."""
        if wanted.states and not wanted.tags:
            answer = self._client.call("small", SMALL_STATES, wanted.after or "", *wanted.states)
            if answer[0] == "gone":
                raise _no_task(str(wanted.after))
            if answer[0] == "found":
                return [row[0] for row in answer[1] if _passes(row, wanted)][: wanted.limit + 1]
        return self._walk(f"tag:{wanted.tags[0]}" if wanted.tags else "index", wanted)

    def _walk(self, index: str, wanted: TaskFilter) -> builtins.list[str]:
        ids: builtins.list[str] = []
        after = wanted.after or ""
        while len(ids) <= wanted.limit:
            rows = self._client.call("walk", index, after, CHUNK)
            if rows is None:
                raise _no_task(after)
            ids += [row[0] for row in rows if _passes(row, wanted)]
            if len(rows) < CHUNK:
                break
            after = rows[-1][0]
        return ids[: wanted.limit + 1]

    def claim(self, task_id: str, slot: SlotIdentity, run_id: str, *, lease_ms: int) -> Claim | RefusedClaim:
        cap = self._config.task_budget_usd
        default_cap = "" if cap is None else to_micros(cap)
        epoch = self._client.epoch or ""
        answer = self._client.call(
            "claim", task_id, slot.slot_id, slot.incarnation, run_id, lease_ms, epoch, default_cap, new_run_id()
        )
        if answer[0] == "refused":
            return RefusedClaim(answer[1])
        _, values, prompt, feedback, kind, granted, resume, session_cost, lost_before, plan, note, forks, begins = (
            answer
        )
        task = codec.task_of(task_id, values)
        return Claim(
            task=task,
            prompt=prompt,
            run_id=run_id,
            number=task.counters.runs,
            kind=kind,
            cap_usd=to_usd(int(granted)) if granted else None,
            resume_session_id=resume or None,
            session_cost_usd=codec.micros(session_cost),
            lost_before=lost_before == "1",
            feedback=codec.feedback_of(feedback),
            plan=graph_codec.plan_of(plan),
            note=graph_codec.note_of(note),
            fork=forks == "1",
            session_id=begins or None,
        )

    def release(self, task_id: str, run_id: str, *, reason: str) -> bool:
        reason = codec.one_line(reason, codec.REASON_CHARS)
        answer = self._client.call("release", task_id, run_id, self._client.epoch or "", reason)
        return _known(answer)[0] == "done"

    def start(self, task_id: str, run_id: str, *, session_id: str) -> bool:
        answer = self._client.call("start", task_id, run_id, self._client.epoch or "", session_id)
        return _known(answer)[0] == "done"

    def end(self, task_id: str, run_id: str, verdict: Verdict) -> Ended | None:
        fields = codec.verdict_fields(verdict)
        answer = _known(self._client.call("finish", task_id, run_id, self._client.epoch or "", *fields))
        if answer[0] == "stale":
            return None
        return Ended(task=codec.task_of(task_id, answer[1]), bells=tuple(map(codec.bell_of, answer[2])))

    def finish(self, task_id: str, run_id: str, verdict: Verdict) -> Task | None:
        ended = self.end(task_id, run_id, verdict)
        return None if ended is None else ended.task

    def cancel(self, task_id: str, *, reason: str) -> Task:
        answer = self._client.call("cancel", task_id, codec.one_line(reason, codec.REASON_CHARS) or "cancelled")
        return self._moved(task_id, answer)

    def hold(self, task_id: str, *, reason: str) -> Task:
        answer = self._client.call("hold", task_id, codec.one_line(reason, codec.REASON_CHARS))
        if answer[0] == "conflict":
            raise Conflict(f"{task_id} is {answer[1]}; only a pending task can be held.")
        return self._moved(task_id, answer)

    def _moved(self, task_id: str, answer: Sequence[Any]) -> Task:
        if answer[0] == "unknown":
            raise _no_task(task_id)
        return codec.task_of(task_id, answer[1])

    def wake(self, task_id: str) -> Doorbell | None:
        answer = self._client.call("wake", task_id)
        return codec.bell_of(answer[0]) if answer else None


def _no_task(task_id: str) -> NotFound:
    return NotFound(f"There is no task {task_id!r}.")


def _batches(calls: Iterable[list[str]]) -> Iterable[list[str]]:
    """The arguments of several requests together, bounded in number and size."""
    batch: list[str] = []
    count = size = 0
    for call in calls:
        weight = sum(map(len, call))
        if batch and (count == BATCH or size + weight > BATCH_CHARS):
            yield batch
            batch, count, size = [], 0, 0
        batch += call
        count, size = count + 1, size + weight
    if batch:
        yield batch


def _is(answer: Any, word: str) -> bool:
    return not isinstance(answer, PoolError) and answer[0] == word


def _refusal(answer: Any) -> PoolError | None:
    """Why nothing of a batch was stored; None when all of it was."""
    if isinstance(answer, PoolError):
        return answer
    word, task_id = answer[0], answer[1] if len(answer) > 1 else ""
    if word == "reused":
        return KeyReused(f"That idempotency key was used for a different request, {task_id}.")
    if word == "unknown":
        return NotFound(f"There is no task {task_id!r} whose session could be used.")
    if word == "drained":
        return PoolDrained()
    return PoolError("No free id could be found.") if word == "taken" else None


def _known(answer: Sequence[Any]) -> Sequence[Any]:
    if answer[0] == "reset":
        raise StoreReset
    return answer


def _passes(row: Sequence[str], wanted: TaskFilter) -> bool:
    _, state, submitter, tags = row
    if wanted.states and state not in wanted.states:
        return False
    if wanted.tags and not set(wanted.tags) <= set(tags.split(",")):
        return False
    return (
        wanted.submitter is None
        or cast("dict[str, str]", json.loads(submitter or "{}")).get("name", "") == wanted.submitter
    )
