"""Housekeeping over Redis: what comes back, what is due, what is forgotten; in small batches."""

from __future__ import annotations

from typing import Final

from claude_pool.models.task import TaskState
from claude_pool.store import codec
from claude_pool.store.base import Doorbell, Lost
from claude_pool.store.client import Client

UNHEARD_MS: Final = 5_000
"""A doorbell that is no longer queued belongs to a slot that is about to claim; after this it counts as lost."""


class RedisHouse:
    """`Housekeeping` over Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def lead(self, holder: str, *, ttl_ms: int) -> bool:
        return self._client.call("lead", holder, ttl_ms) == 1

    def reap(self, *, slack_ms: int, limit: int = 100) -> list[Lost]:
        answer = self._client.call("reap", slack_ms, limit)
        return [
            Lost(task_id=id_, run_id=run_id, state=TaskState(state), bell=codec.bell_of(bell[0]) if bell else None)
            for id_, run_id, state, *bell in answer
        ]

    def due(self, *, limit: int = 500) -> list[Doorbell]:
        return [codec.bell_of(bell) for bell in self._client.call("due", limit)]

    def remind(self, *, pause_ms: int, limit: int = 500) -> list[str]:
        return list(self._client.call("remind", pause_ms, limit))

    def unrung(self, *, queue_empty: bool = False, limit: int = 500) -> list[Doorbell]:
        answer = self._client.call("unrung", limit, UNHEARD_MS if queue_empty else "")
        return [codec.bell_of(bell) for bell in answer]

    def forget(self, *, older_than_ms: int, limit: int = 500) -> int:
        return int(self._client.call("forget", older_than_ms, limit))

    def now_ms(self) -> int:
        return self._client.now_ms()
