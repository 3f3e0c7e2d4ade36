"""Git processes that outlived the slot or the program that started them, and would go on writing under its successor.

Each of our git processes carries its starter's pid in its environment. One that works in the directory that we are
about to repair, and whose parent is not that starter any more, is an orphan: it is ended and waited for, first
politely, so that it removes its lock files. Where there is no /proc (macOS) nothing is found, and the repair trusts the
locks alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

from claude_pool.git import STARTER

_PROC: Final = Path("/proc")
_POLITE_S: Final = 2.0
_POLL_S: Final = 0.01


def end_orphans(git_dir: Path) -> int:
    """End our orphaned git processes in a git directory, and wait until they are gone. Gives how many there were."""
    found = _orphans(git_dir)
    for number, patience_s in ((signal.SIGTERM, _POLITE_S), (signal.SIGKILL, _POLITE_S)):
        alive = [pid for pid in found if _is_ours(pid, git_dir)]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience_s
        while any(_is_ours(pid, git_dir) for pid in alive) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    return len(found)


def _orphans(git_dir: Path) -> list[int]:
    if not _PROC.is_dir():
        return []
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit() and _is_ours(int(entry.name), git_dir)]


def _is_ours(pid: int, git_dir: Path) -> bool:
    """Whether a process is a git of ours in that directory whose starter is gone. A dead one is not."""
    try:
        variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        status = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    if os.fsencode(f"GIT_DIR={git_dir}") not in variables or status[0] in "ZX":
        return False
    starters = [int(entry.partition(b"=")[2]) for entry in variables if entry.startswith(f"{STARTER}=".encode())]
    return bool(starters) and not _lives_below(int(status[1]), starters[0])


def _lives_below(pid: int, starter: int) -> bool:
    """Whether a process is the starter or a descendant of it; git's own children have git as their parent."""
    while pid > 1:
        if pid == starter:
            return True
        try:
            pid = int((_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False
