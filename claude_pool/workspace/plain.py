"""Isolation `none`: a run works in a directory that somebody named, or in one of the task's own.

Nothing is committed or cleaned there: it is the user's. One run at a time in a directory; runs that can only read may
share it. A task that names no directory gets one that is its own for good, empty at first and the same for every run of
it, whichever slot of the node carries it out; it goes when it is empty at the end, or old (`forget_scratch`). Raises
WorkspaceBusy when somebody else works there, WorkspaceError when there is no such directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from claude_pool.errors import WorkspaceError
from claude_pool.models.task import BranchFacts
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace.base import Workspace
from claude_pool.workspace.ground import digest
from claude_pool.workspace.locks import take


class PlainWorkspace(Workspace):
    """A directory without isolation, held until `close`."""

    isolation = "none"

    def __init__(self, job: WorkspaceJob, *, scratch: Path, locks: Path, wait_s: float) -> None:
        self._own = job.working_dir is None
        self.path = scratch / job.task_id if job.working_dir is None else _existing(Path(job.working_dir))
        lock = locks / f"{digest(self.path)}.lock"
        self._lock: int | None = take(lock, wait_s=wait_s, shared=job.reads_only, note=f"{job.task_id} in {self.path}")
        if self._own:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def save(self, message: str) -> BranchFacts | None:
        """Nothing to do: there is no repository of ours, and the directory is its owner's."""
        del message
        return None

    def close(self) -> None:
        if self._lock is None:
            return
        if self._own:
            with contextlib.suppress(OSError):  # not empty: the task left something
                self.path.rmdir()
        os.close(self._lock)
        self._lock = None


def forget_scratch(scratch: Path, *, before_s: float) -> int:
    """Delete tasks' own directories that nothing has changed in since then (Unix seconds); how many."""
    gone = 0
    with contextlib.suppress(FileNotFoundError):
        for path in scratch.iterdir():
            if path.lstat().st_mtime < before_s:
                shutil.rmtree(path, ignore_errors=True)
                gone += 1
    return gone


def _existing(path: Path) -> Path:
    if not path.is_absolute():
        raise WorkspaceError(f"The working directory {str(path)!r} is not absolute; slots have no directory in common.")
    try:
        found = path.resolve(strict=True)
    except OSError as error:
        raise WorkspaceError(f"The working directory {path} can't be used: {error.strerror}.") from None
    if not found.is_dir() or not os.access(found, os.R_OK | os.X_OK):
        raise WorkspaceError(f"The working directory {path} is no directory that can be read.")
    return found
