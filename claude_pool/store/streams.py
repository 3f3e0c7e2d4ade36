"""The pool's events and the tasks' live logs: two kinds of capped streams, read with a cursor, consumed by nobody."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError

from claude_pool.config import PoolConfig
from claude_pool.errors import InvalidRequest, PoolError
from claude_pool.models.events import LogEntry, TaskEvent
from claude_pool.store.client import Client

LINE_CHARS: Final = 16_384
"""Most of a line that travels through Redis; the whole of it is in the file on the node."""
DATA_CHARS: Final = 65_536
"""Extras larger than this are left out."""


class RedisEvents:
    """`EventStore` over Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def head(self) -> str:
        return self._client.last_id("events")

    def read(self, after: str, *, block_ms: int | None = None, limit: int = 1000) -> tuple[list[TaskEvent], str]:
        entries = self._client.read_stream("events", after=_cursor(after), limit=limit, block_ms=block_ms)
        events = [_event(id_, fields) for id_, fields in entries]
        return events, events[-1].id if events else after


class RedisLogs:
    """`LogStore` over Redis."""

    def __init__(self, client: Client, config: PoolConfig) -> None:
        self._client = client
        self._config = config

    def append(self, task_id: str, entries: Sequence[LogEntry]) -> None:
        if entries:
            lines = (_line(entry) for entry in entries)
            self._client.append_stream("log", task_id, entries=lines, most=self._config.log_lines)

    def read(self, task_id: str, *, after: str = "", block_ms: int | None = None, limit: int = 1000) -> list[LogEntry]:
        entries = self._client.read_stream("log", task_id, after=_cursor(after), limit=limit, block_ms=block_ms)
        return [_entry(id_, fields) for id_, fields in entries]


def _cursor(text: str) -> str:
    """A stream id. Raises InvalidRequest for anything else: `$` and the like mean other things to the server."""
    ms, _, number = text.partition("-")
    if not text:
        return "0-0"
    if not ms.isdecimal() or (number and not number.isdecimal()):
        raise InvalidRequest(f"{text!r} is no cursor of this pool.")
    return text


def _born_ms(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def _event(entry_id: str, fields: dict[str, str]) -> TaskEvent:
    try:
        return TaskEvent.model_validate({"id": entry_id, "at_ms": _born_ms(entry_id), **fields})
    except ValidationError as error:
        raise PoolError(f"Event {entry_id} in the store can't be read: {error}") from None


def _line(entry: LogEntry) -> dict[str, str]:
    fields = {"run_id": entry.run_id, "kind": entry.kind}
    if entry.text:
        fields["text"] = entry.text[:LINE_CHARS]
    if entry.tool:
        fields["tool"] = entry.tool
    if entry.at_ms:
        fields["at_ms"] = str(entry.at_ms)
    if entry.data and len(data := json.dumps(entry.data)) <= DATA_CHARS:
        fields["data"] = data
    return fields


def _entry(entry_id: str, fields: dict[str, str]) -> LogEntry:
    values: dict[str, Any] = {"id": entry_id, "at_ms": _born_ms(entry_id), **fields}
    try:
        if "data" in fields:
            values["data"] = json.loads(fields["data"])
        return LogEntry.model_validate(values)
    except ValueError as error:
        raise PoolError(f"Line {entry_id} in the store can't be read: {error}") from None
