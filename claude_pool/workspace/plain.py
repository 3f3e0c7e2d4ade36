"""Isolation `none`: a run works in a directory that somebody named, or in one of the task's own.

Nothing is committed or cleaned there: it is the user's. One run at a time in a directory; runs that can only read may
share it. A task that names no directory gets one that is its own for good, empty at first and the same for every run of
it, whichever slot of the node carries it out; it goes when it is empty at the end, or old (`forget_scratch`). A slot
with a process that waits lends such a task the directory in which it waits (`lend`): then the task's name leads there.
Raises WorkspaceBusy when somebody else works there, WorkspaceError when there is no such directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from claude_pool.errors import WorkspaceBusy, WorkspaceError
from claude_pool.models.task import BranchFacts
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace.base import Workspace
from claude_pool.workspace.ground import digest
from claude_pool.workspace.locks import hold, take


class PlainWorkspace(Workspace):
    """A directory without isolation, held until `close`."""

    isolation = "none"

    def __init__(self, job: WorkspaceJob, *, scratch: Path, locks: Path, wait_s: float) -> None:
        self._own = scratch / job.task_id if job.working_dir is None else None
        self._lent = False
        self.path = self._own or _existing(Path(job.working_dir or ""))
        self._lock = locks / f"{digest(self.path)}.lock"
        # Of its own a task has one run at a time; a slot that was stopped in an earlier one must not be in its way.
        shared = self._own is not None or job.reads_only
        note = f"{job.task_id} in {self.path}"
        self._held: int | None = take(self._lock, wait_s=wait_s, shared=shared, note=note)
        if self._own is not None:
            self.path = self._make(self._own, job.ready)

    def _make(self, own: Path, ready: Path | None) -> Path:
        if ready is not None and not os.path.lexists(own):
            own.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            own.symlink_to(ready)
            self._lent = True
        path = own.resolve()
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def save(self, message: str) -> BranchFacts | None:
        """Nothing to do: there is no repository of ours, and the directory is its owner's."""
        del message
        return None

    def close(self) -> None:
        if self._held is None:
            return
        os.close(self._held)
        self._held = None
        if self._own is not None:
            with contextlib.suppress(WorkspaceBusy, OSError), hold(self._lock, wait_s=0):
                self._clear(self._own)

    def _clear(self, own: Path) -> None:
        """Remove a directory in which nothing was left; one on loan goes back to who lent it."""
        if not self._lent:
            self.path.rmdir()
        if own.is_symlink() and not (self._lent and any(self.path.iterdir())):
            own.unlink()


def lend(scratch: Path) -> Path:
    """A new empty directory for a process to wait in; who has it removes it when no task came."""
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Path(tempfile.mkdtemp(prefix="ready-", dir=scratch)).resolve()


def forget_scratch(scratch: Path, *, before_s: float) -> int:
    """Delete tasks' own directories that nothing has changed in since then (Unix seconds); how many."""
    gone = 0
    with contextlib.suppress(FileNotFoundError):
        for path in scratch.iterdir():
            if path.is_symlink():
                if not path.exists():
                    path.unlink(missing_ok=True)
            elif path.lstat().st_mtime < before_s:
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
