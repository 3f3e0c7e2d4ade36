"""Parcels: what travels between nodes by the store, a branch as a git bundle or the transcript of a conversation."""

from __future__ import annotations

from typing import Protocol

from pydantic import Field

from claude_pool.models.base import Record


class Parcel(Record):
    """Something that travels, and what is to be known of it."""

    facts: dict[str, str] = Field(default_factory=dict[str, str])
    data: bytes = b""


class ParcelStore(Protocol):
    """Keeps parcels for a while: copies, bounded in size and time, never the only one there is."""

    def put(self, name: str, parcel: Parcel) -> bool:
        """Keep it under this name, in place of an earlier one. False when it is larger than all may be together."""
        ...

    def facts(self, name: str) -> dict[str, str] | None:
        """What is to be known of it, without the rest."""
        ...

    def get(self, name: str) -> Parcel | None: ...
