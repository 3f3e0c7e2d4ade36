"""Reviews over Redis: who waits, and the one script that hears a reviewer's word."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, Final

from claude_pool.errors import Conflict, NotFound
from claude_pool.models.task import Task, TaskState
from claude_pool.store import codec
from claude_pool.store.base import Decided
from claude_pool.store.client import Client

CHUNK: Final = 500


class RedisReviews:
    """`ReviewStore` over Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def waiting(self, *, limit: int) -> builtins.list[Task]:
        found: list[Task] = []
        for first in range(0, limit, CHUNK):
            count = min(CHUNK, limit - first)
            ids = self._client.call("oldest", TaskState.PENDING_REVIEW, first, count)
            values: list[Any] = self._client.call("records", *ids)
            found += [codec.task_of(id_, one) for id_, one in zip(ids, values, strict=True) if one]
            if len(ids) < count:
                break
        return [task for task in found if task.state is TaskState.PENDING_REVIEW]

    def hold(self, task_id: str, *, run_id: str, who: str, hold_ms: int) -> Task:
        return self._decide("hold", task_id, run_id, who, "", str(hold_ms)).task

    def let_go(self, task_id: str, *, who: str) -> None:
        self._decide("let_go", task_id, "", who, "", "")

    def approve(self, task_id: str, *, run_id: str, who: str, by: str) -> Decided:
        return self._decide("approve", task_id, run_id, who, by, "")

    def reject(self, task_id: str, feedback: str, *, run_id: str, who: str, by: str) -> Decided:
        return self._decide("reject", task_id, run_id, who, by, feedback)

    def _decide(self, what: str, task_id: str, run_id: str, who: str, by: str, word: str) -> Decided:
        by = codec.one_line(by, codec.TITLE_CHARS) or "somebody"
        answer = self._client.call("decide", what, task_id, run_id, who, by, word)
        if answer[0] != "done":
            raise _refusal(task_id, answer)
        _, values, bells = answer
        return Decided(task=codec.task_of(task_id, values), bells=tuple(codec.bell_of(bell) for bell in bells))


def _refusal(task_id: str, answer: Sequence[Any]) -> Conflict | NotFound:
    match answer[0]:
        case "unknown":
            return NotFound(f"There is no task {task_id!r}.")
        case "state":
            return Conflict(f"{task_id} is {answer[1]}; only what waits for its review can be approved or rejected.")
        case "run":
            return Conflict(f"{task_id} ran again since it was shown: now it is run {answer[1]}.", hint="Look again.")
        case _:
            return Conflict(f"Somebody else is approving {task_id} at this moment.", hint="Look again in a minute.")
