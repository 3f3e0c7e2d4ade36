"""Sessions that travel: the transcript of a conversation goes to the store with its task, and comes from there.

The CLI continues a session from a file below `projects` of its config directory. Within a node all slots share that
folder; between nodes the file travels as a parcel, in pools whose store several machines can share. It goes after each
run and is fetched only where it is missing or older. None of it may cost an answer: what fails is logged, and a
session that can't be had is the CLI's to complain about.
"""

from __future__ import annotations

import logging
import zlib
from pathlib import Path
from typing import Final

from claude_pool.config import PoolConfig
from claude_pool.errors import PoolError
from claude_pool.models.parcel import Parcel, ParcelStore

_log = logging.getLogger(__name__)

CARRIED: Final = "carried"
"""The folder below `projects` for transcripts from other nodes; the CLI looks in all of them."""
_LARGEST: Final = 1 << 30
"""A transcript, unpacked: what is packed smaller than this and larger inside is no transcript."""


class Sessions:
    """The transcripts of one node."""

    def __init__(self, config: PoolConfig, projects: Path, parcels: ParcelStore) -> None:
        self._config = config
        self._projects = projects
        self._parcels = parcels
        self._travels = not config.embedded

    def send(self, session_id: str | None) -> None:
        """Put the transcript where other nodes find it."""
        if not self._travels or session_id is None or (path := self._find(session_id)) is None:
            return
        try:
            text = path.read_bytes()
            data = zlib.compress(text)
            if len(data) > self._config.parcel_bytes:
                _log.warning("session %s is too large to travel: %s bytes", session_id, f"{len(data):,}")
                return
            facts = {"node": self._config.node, "bytes": str(len(text))}
            self._parcels.put(_name(session_id), Parcel(facts=facts, data=data))
        except (OSError, PoolError) as error:
            _log.warning("session %s stays on this node: %s", session_id, error)

    def fetch(self, session_id: str | None) -> bool:
        """See to it that a conversation can be continued here; False when there is nothing that could be fetched.

        A transcript only grows, so the longer one is the newer.
        """
        if not self._travels or session_id is None:
            return False
        try:
            told = self._parcels.facts(_name(session_id))
            if told is None or told.get("node") == self._config.node:
                return False
            here = self._find(session_id)
            if here is not None and here.stat().st_size >= int(told.get("bytes", "0")):
                return False
            parcel = self._parcels.get(_name(session_id))
            if parcel is None:
                return False
            self._write(here or self._projects / CARRIED / f"{session_id}.jsonl", _unpacked(parcel.data))
        except (OSError, ValueError, zlib.error, PoolError) as error:
            _log.warning("session %s could not be fetched: %s", session_id, error)
            return False
        _log.info("session %s came from node %s", session_id, told.get("node"))
        return True

    def _find(self, session_id: str) -> Path | None:
        found = [path for path in self._projects.glob(f"*/{session_id}.jsonl") if path.is_file()]
        return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)

    @staticmethod
    def _write(path: Path, text: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(".fetched")
        fresh.touch(mode=0o600)
        fresh.write_bytes(text)
        fresh.replace(path)


def _unpacked(data: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(data, _LARGEST)
    if unpacking.unconsumed_tail:
        raise ValueError("it is larger than a transcript may be")
    return text


def _name(session_id: str) -> str:
    return f"session:{session_id}"
