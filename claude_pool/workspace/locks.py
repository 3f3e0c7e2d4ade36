"""Locks between processes of one machine: `flock` on small files, gone with their holder however it ends.

    hold       take a lock, waiting at most so long; raises WorkspaceBusy
    is_held    whether somebody has it now

A lock file that is deleted or replaced while we wait is noticed: what counts is the file that has the name. Links are
not followed, so that a lock can't be turned against another file.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

from claude_pool.errors import WorkspaceBusy, WorkspaceError

_POLL_S: Final = 0.02
_MODE: Final = 0o600


@contextlib.contextmanager
def hold(path: Path, *, wait_s: float, shared: bool = False, note: str = "") -> Generator[None]:
    """Hold the lock for a `with` block. `note` says to others who has it and why."""
    descriptor = take(path, wait_s=wait_s, shared=shared, note=note)
    try:
        yield
    finally:
        os.close(descriptor)


def take(path: Path, *, wait_s: float, shared: bool = False, note: str = "") -> int:
    """Take the lock and give its descriptor: closing it gives the lock back. Raises WorkspaceBusy."""
    deadline = time.monotonic() + wait_s
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while (descriptor := _try(path, kind)) is None:
        if time.monotonic() >= deadline:
            raise WorkspaceBusy(f"{path} is held by {_holder(path)}; waited {wait_s:g} s.")
        time.sleep(_POLL_S)
    if not shared:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "note": note}).encode(), 0)
    return descriptor


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock. A lock that was never made is not held."""
    if not path.exists():
        return False
    if (descriptor := _try(path, fcntl.LOCK_EX)) is None:
        return True
    os.close(descriptor)
    return False


def _try(path: Path, kind: int) -> int | None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, _MODE)
    except OSError as error:
        raise WorkspaceError(f"The lock {path} can't be opened: {error.strerror}.") from None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        named, ours = path.lstat(), os.fstat(descriptor)
    except OSError:  # held, or deleted since we opened it
        os.close(descriptor)
        return None
    if (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino) or not stat.S_ISREG(ours.st_mode):
        os.close(descriptor)
        return None
    return descriptor


def _holder(path: Path) -> str:
    """Who wrote the lock last, as far as it can be told; data, never trusted."""
    try:
        found = json.loads(path.read_bytes()[:4096])
        return f"process {int(found['pid'])}" + (f" ({str(found['note'])[:200]})" if found.get("note") else "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "another process"
