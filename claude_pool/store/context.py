"""Shared context over Redis: one hash of current values, a short list of earlier ones per key.

A field is `<namespace> <key>`; neither may contain a blank. A value is the time it was set and its JSON.
"""

from __future__ import annotations

from pydantic import ValidationError

from claude_pool.errors import PoolError, Refused
from claude_pool.models.context import (
    MAX_ENTRIES,
    MAX_HISTORY,
    MAX_HISTORY_BYTES,
    MAX_TOTAL_BYTES,
    ContextEntry,
)
from claude_pool.store.client import Client


class RedisContext:
    """`ContextStore` over Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, entry: ContextEntry) -> ContextEntry:
        text = entry.model_dump_json(exclude={"set_ms"})
        limits = (MAX_ENTRIES, MAX_TOTAL_BYTES, MAX_HISTORY, MAX_HISTORY_BYTES)
        answer, figure = self._client.call("context_put", _field(entry.key, entry.namespace), text, *limits)
        hint = "Delete what nobody needs any more; context_list shows all."
        if answer == "many":
            raise Refused(f"The shared context has {figure} keys; at most {MAX_ENTRIES} are kept.", hint=hint)
        if answer == "large":
            message = f"The shared context would be {int(figure):,} bytes; at most {MAX_TOTAL_BYTES:,} are kept."
            raise Refused(message, hint=hint)
        return entry.evolve(set_ms=int(figure))

    def get(self, key: str, namespace: str = "") -> ContextEntry | None:
        found = self._client.call("context_get", _field(key, namespace))
        return _entry(found[0]) if found else None

    def history(self, key: str, namespace: str = "") -> list[ContextEntry]:
        found = self._client.call("context_get", _field(key, namespace))
        return [_entry(text) for text in found[1:]]

    def delete(self, key: str, namespace: str = "") -> bool:
        return self._client.call("context_delete", _field(key, namespace)) == 1

    def entries(self) -> list[ContextEntry]:
        found = [_entry(text) for text in self._client.call("context_all")]
        return sorted(found, key=lambda entry: (entry.namespace, entry.key))


def _field(key: str, namespace: str) -> str:
    return f"{namespace} {key}"


def _entry(text: str) -> ContextEntry:
    set_ms, _, rest = text.partition(" ")
    try:
        return ContextEntry.model_validate_json(rest).evolve(set_ms=int(set_ms))
    except (ValidationError, ValueError) as error:
        raise PoolError(f"An entry of the shared context can't be read: {error}") from None
