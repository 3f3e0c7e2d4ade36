"""Memory: what a node remembers of the store it works on, in `<node_dir>/epoch`, so that it knows it again.

The store's epoch and how much had happened in it (`EPOCH@COUNT`), kept up at every beat: a store that was emptied has
another epoch, and one that was restored from an older copy knows less. A half-written memory can't be: it is replaced
as a whole.
"""

from __future__ import annotations

import os

from claude_pool.config import PoolConfig


class Memory:
    """One node's memory of its store."""

    def __init__(self, config: PoolConfig) -> None:
        self._path = config.node_dir / "epoch"

    def recall(self) -> str | None:
        """What was seen last; None for a node that has not worked yet."""
        return self._path.read_text().strip() if self._path.exists() else None

    def keep(self, seen: str) -> None:
        scratch = self._path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(f"{seen}\n")
        scratch.rename(self._path)
