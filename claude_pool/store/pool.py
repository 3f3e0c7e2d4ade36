"""The pool as a whole over Redis: epoch and schema, status, whether it takes work, money and breakers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from claude_pool.config import PoolConfig
from claude_pool.errors import InvalidRequest, NotFound, Refused, StoreReset
from claude_pool.ids import new_run_id
from claude_pool.keys import SCHEMA
from claude_pool.models.base import to_micros
from claude_pool.models.pool import PoolStatus
from claude_pool.models.task import TaskState
from claude_pool.store import codec
from claude_pool.store.base import Doorbell
from claude_pool.store.client import Client

MOST_USD: Final = 1e9
"""A ledger counts micro-dollars exactly up to far beyond this."""


class RedisPool:
    """`PoolStore` over Redis."""

    def __init__(self, client: Client, config: PoolConfig) -> None:
        self._client = client
        self._config = config

    def prepare(self, *, epoch: str | None) -> str:
        facts = self._client.facts()
        if facts and facts.eviction not in {"noeviction", ""}:
            raise Refused(
                f"Redis at {self._client.address} would evict keys when its memory is full ({facts.eviction}).",
                hint="Set maxmemory-policy to noeviction.",
            )
        found, schema, moves, other = self._client.call("prepare", new_run_id(), epoch or "", SCHEMA)
        if other:
            raise StoreReset
        if int(schema or 0) != SCHEMA:
            raise Refused(f"The store's records have version {schema}, this program knows version {SCHEMA}.")
        self._client.epoch = f"{found}@{moves}"
        return self._client.epoch

    def warnings(self) -> tuple[str, ...]:
        facts = self._client.facts()
        if facts is None:
            return ("The store lives in this process and ends with it.",)
        found: list[str] = []
        if not facts.append_only:
            found.append("Redis keeps no append-only file: a restart of the server loses tasks.")
        elif facts.fsync not in {"always", ""}:
            found.append(f"Redis has appendfsync {facts.fsync}: a crash of the server loses what was written last.")
        if facts.version < (7,):
            found.append(f"Redis {'.'.join(map(str, facts.version))} is old; 7.0 or newer is advised.")
        return tuple(found)

    def status(self) -> PoolStatus:
        answer = self._client.call("status", self._client.epoch or "", *TaskState)
        counts, (slots, busy, nodes), ledger, accepting, breaker, now_ms, simulated, reset = answer
        tasks = dict(zip(TaskState, counts, strict=True))
        limit, reserved, spent = ledger
        return PoolStatus(
            pool=self._config.name,
            accepting=accepting == "1",
            slots=slots,
            idle=slots - busy,
            busy=busy,
            nodes=nodes,
            **{str(state): count for state, count in tasks.items()},
            spent_usd=codec.micros(spent),
            reserved_usd=codec.micros(reserved),
            budget_usd=None if limit is None else codec.micros(limit),
            simulated=simulated == 1,
            notes=(*_resets(reset), *_waits(tasks[TaskState.PENDING], slots), *_closed(breaker, int(now_ms))),
        )

    def set_accepting(self, *, accepting: bool) -> None:
        self._client.call("set_accepting", int(accepting))

    def set_limit(self, scope: str, limit_usd: float | None) -> None:
        if limit_usd is not None and not (math.isfinite(limit_usd) and 0 <= limit_usd <= MOST_USD):
            raise InvalidRequest(f"{limit_usd} is no limit: it must be between 0 and {MOST_USD:,.0f} dollars.")
        if not self._client.call("set_limit", scope, "" if limit_usd is None else to_micros(limit_usd)):
            raise NotFound(f"There is no task {scope!r}.")

    def release_budget(self, scope: str, *, limit: int = 500) -> list[Doorbell]:
        return [codec.bell_of(bell) for bell in self._client.call("release_budget", scope, limit)]

    def close_breaker(self, account: str = "default") -> bool:
        return self._client.call("close_breaker", account) == 1


def _resets(reset: int) -> list[str]:
    return [f"{StoreReset().message} Nothing new is started."] if reset else []


def _waits(pending: int, slots: int) -> list[str]:
    if slots or not pending:
        return []
    return [f"{pending} {'task waits' if pending == 1 else 'tasks wait'} and there is no slot."]


def _closed(breaker: Sequence[str | None], now_ms: int) -> list[str]:
    state, until_ms, message = breaker
    if state != "open":
        return []
    why = f": {message.rstrip('.')}" if message else ""
    if until_ms is None:
        return [f"The account is closed until somebody acts{why}."]
    if int(until_ms) <= now_ms:
        return [f"The account is being tried with one run{why}."]
    until = datetime.fromtimestamp(int(until_ms) / 1000, UTC)
    return [f"The account is closed until {until:%Y-%m-%d %H:%M:%S} UTC{why}."]
