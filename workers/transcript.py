"""What becomes of a run's output besides its meaning: the whole log on disk, live lines in batches, the end of stderr.

None of the three may ever stop a run: a full disk ends the log with a notice, and a program that floods its stderr
costs a fixed amount of memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from claude_pool.models.events import LogEntry

KEPT_CHARS: Final = 4000
FLUSH_S: Final = 0.1
FLUSH_ENTRIES: Final = 50
_FOREVER: Final = float("inf")


class RawLog:
    """The CLI's stdout as it came, appended to a file (0600), up to `most` bytes of one run."""

    def __init__(self, path: Path, *, most: int) -> None:
        self._path = path
        self._room = most
        self._descriptor = -1
        self._trouble = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._trouble = self._said(error)

    def write(self, data: bytes) -> str:
        """Append; what went wrong, said once, else an empty string."""
        rest = memoryview(data)[: self._room]
        self._room -= len(rest)
        try:
            while rest and self._descriptor >= 0:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            self._trouble = self._said(error)
            self.close()
        trouble, self._trouble = self._trouble, ""
        return trouble

    def close(self) -> None:
        """No more is written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _said(self, error: OSError) -> str:
        return f"The log file {self._path.name} ends here: {error.strerror or error}. The run goes on."


class Batch:
    """Live lines on their way out: the first at once, the next ones together."""

    def __init__(self, on_entries: Callable[[list[LogEntry]], None]) -> None:
        self._on_entries = on_entries
        self._waiting: list[LogEntry] = []
        self._quiet_until = 0.0

    @property
    def due_at(self) -> float:
        """Monotonic seconds of the next flush; infinity when nothing waits."""
        return self._quiet_until if self._waiting else _FOREVER

    def add(self, entries: list[LogEntry]) -> None:
        """Take lines in; they leave at once when nothing left lately, or when there are many."""
        self._waiting += entries
        if len(self._waiting) >= FLUSH_ENTRIES:
            self.flush()
        else:
            self.flush_if_due(time.monotonic())

    def flush_if_due(self, now: float) -> None:
        """Send what waits if it has waited long enough."""
        if now >= self.due_at:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            entries, self._waiting = self._waiting, []
            self._on_entries(entries)
            self._quiet_until = time.monotonic() + FLUSH_S


class Tail:
    """The last characters of a stream of any length."""

    def __init__(self) -> None:
        self._kept = b""

    def add(self, data: bytes) -> None:
        """Take bytes in, forget what is too long ago."""
        self._kept = (self._kept + data)[-4 * KEPT_CHARS :]

    def text(self) -> str:
        """The last `KEPT_CHARS` characters; what is not UTF-8 is replaced."""
        return self._kept.decode(errors="replace")[-KEPT_CHARS:]
