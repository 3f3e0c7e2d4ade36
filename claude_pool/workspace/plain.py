"""Isolation `none`: a run works in a directory that somebody named, or in an empty one of the slot's own.

Nothing is committed or cleaned there: it is the user's. One run at a time in a directory; runs that can only read may
share it. The slot's own directory is empty for each task; what a task leaves in it is moved beside it, not deleted.
Raises WorkspaceBusy when somebody else works there, WorkspaceError when there is no such directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from claude_pool.errors import WorkspaceError
from claude_pool.models.task import BranchFacts
from claude_pool.models.workspace import WorkspaceJob
from claude_pool.workspace.base import Workspace
from claude_pool.workspace.ground import digest
from claude_pool.workspace.locks import take

OWN: Final = "plain"
LEFT: Final = "left"


class PlainWorkspace(Workspace):
    """A directory without isolation, held until `close`. `left` is where files of a task went, if it left any."""

    isolation = "none"

    def __init__(self, job: WorkspaceJob, *, slot_dir: Path, locks: Path, wait_s: float) -> None:
        self.left: Path | None = None
        self._aim: Path | None = None
        if job.working_dir is None:
            self.path = slot_dir / "work" / OWN
            self._aim = slot_dir / LEFT / job.task_id
        else:
            self.path = _existing(Path(job.working_dir))
        lock = locks / f"{digest(self.path)}.lock"
        self._lock: int | None = take(lock, wait_s=wait_s, shared=job.reads_only, note=f"{job.task_id} in {self.path}")
        if self._aim is not None:
            _move_out(self.path, slot_dir / LEFT / "unknown")

    def save(self, message: str) -> BranchFacts | None:
        """Nothing to do: there is no repository of ours, and the directory is its owner's."""
        del message
        return None

    def close(self) -> None:
        if self._lock is None:
            return
        try:
            self.left = _move_out(self.path, self._aim) if self._aim is not None else None
        finally:
            os.close(self._lock)
            self._lock = None


def _move_out(path: Path, aim: Path) -> Path | None:
    """Empty a directory by moving it, when there is something in it. It may have become anything meanwhile."""
    free: Path | None = None
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir() or any(path.iterdir())):
        aim.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = 0
        while os.path.lexists(free := aim.with_name(f"{aim.name}.{number}" if number else aim.name)):
            number += 1
        path.rename(free)
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return free


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
