"""Journal: results that are not in the store yet, in files that outlive the process.

A run's verdict is written here before the store is told, and removed once the store has answered. So a slot that is
killed between the two, or a store that is away for hours, costs no result: whoever starts on this node next delivers
what it finds. Delivering twice is harmless, because `finish` is fenced by the run id.

A file that can't be read any more (cut off by a full disk, say) is set aside with the ending `.bad` and reported.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from claude_pool.models.base import Record
from claude_pool.models.task import Task
from claude_pool.models.verdict import Verdict

_log = logging.getLogger(__name__)

_STALE_S = 60.0


class Entry(Record):
    """One verdict on its way to the store."""

    task_id: str
    run_id: str
    verdict: Verdict


class Journal:
    """A folder with one file per undelivered verdict."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _path(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.json"

    def write(self, entry: Entry, *, durable: bool = False) -> None:
        """Keep it. `durable` waits for the disk: needed only when the store is away and this is the only copy."""
        fd, name = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(entry.model_dump_json())
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(name).rename(self._path(entry.run_id))

    def remove(self, run_id: str) -> None:
        """The store has it."""
        self._path(run_id).unlink(missing_ok=True)

    def entries(self) -> Iterator[Entry]:
        """What is still to be delivered, oldest first."""
        for path in sorted(self._folder.glob("*.json"), key=_age):
            try:
                yield Entry.model_validate_json(path.read_bytes())
            except FileNotFoundError:  # its own slot has delivered it meanwhile
                continue
            except (ValidationError, OSError) as error:
                _log.error("journal entry %s can't be read and is set aside: %s", path.name, error)
                with contextlib.suppress(FileNotFoundError):
                    path.rename(path.with_suffix(".bad"))

    def deliver(self, finish: Callable[[str, str, Verdict], Task | None]) -> int:
        """Tell the store everything; how many were delivered. Raises what `finish` raises, and keeps the rest."""
        self._tidy()
        delivered = 0
        for entry in self.entries():
            task = finish(entry.task_id, entry.run_id, entry.verdict)
            _log.info("delivered the result of %s late: %s", entry.task_id, task.state if task else "superseded")
            self.remove(entry.run_id)
            delivered += 1
        return delivered

    def _tidy(self) -> None:
        """Remove what was being written when its writer was killed; writing takes no minute."""
        for path in self._folder.glob("*.tmp"):
            if _age(path) < time.time() - _STALE_S:
                path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """For sorting; an entry that is gone by now comes first and is skipped when it is read."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
