"""Shared context: what every worker of the pool, or of one tag, is told before its task. Limits are checked here."""

from __future__ import annotations

from typing import Annotated, Final, Protocol

from pydantic import AfterValidator, Field, StringConstraints

from claude_pool.models.base import Record
from claude_pool.models.options import plain_text

MAX_VALUE_BYTES: Final = 64 << 10
MAX_TOTAL_BYTES: Final = 256 << 10
"""Of all values that are current, with their keys: each task that starts may be told all of it."""
MAX_ENTRIES: Final = 200
MAX_HISTORY: Final = 10
MAX_HISTORY_BYTES: Final = 128 << 10
"""Of one key's earlier values together."""


def _value(text: str) -> str:
    if not plain_text(text).strip():
        raise ValueError("must not be empty")
    if (size := len(text.encode())) > MAX_VALUE_BYTES:
        raise ValueError(f"is {size:,} bytes; at most {MAX_VALUE_BYTES:,} (64 KiB) are accepted")
    return text


ContextKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
Namespace = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._:/-]{0,63})?$")]
"""A tag; "" is everybody's."""
ContextValue = Annotated[str, AfterValidator(_value)]


class ContextEntry(Record):
    """One key's value. `namespace` is the tag whose tasks are told; "" tells all."""

    key: ContextKey
    value: ContextValue
    namespace: Namespace = ""
    by: str = Field(default="", max_length=200)
    set_ms: int = 0


class ContextStore(Protocol):
    """The pool's shared context: bounded in size and number, with each key's last values."""

    def put(self, entry: ContextEntry) -> ContextEntry:
        """Set it, in place of an earlier value, which goes into the history. Raises Refused when all is too much."""
        ...

    def get(self, key: str, namespace: str = "") -> ContextEntry | None: ...

    def history(self, key: str, namespace: str = "") -> list[ContextEntry]:
        """The values before the current one, the latest first."""
        ...

    def delete(self, key: str, namespace: str = "") -> bool:
        """Forget it, with its history. False when it was not there."""
        ...

    def entries(self) -> list[ContextEntry]:
        """All of it: everybody's first, then by namespace, each by key."""
        ...
