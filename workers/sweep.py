"""Sweep: what an earlier life of this node left on the machine, found and removed before the node begins.

A process is ours when its environment carries this pool's and this node's name and a run's mark; it is an orphan when
no guard above it has a living slot. Orphans, everything below them and guards without a slot are killed. This process,
its ancestors, runs that somebody still owns and everything without all three marks are left alone. Without /proc
(macOS) nothing is found: there the guards' own end has to do.

Also here: the files that killed CLIs leave in a slot's own folders (sockets, temporary files, session locks).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from workers import proctable
from workers.guarded import OWNER, ROLE, RUN_MARK
from workers.places import Place
from workers.proctable import Proc

_PATIENCE_S = 10.0


def sweep(pool: str, node: str, *, keep: Collection[str] = ()) -> list[int]:
    """Kill every orphan of this pool's node, except those of the runs in `keep`; gives the pids that were killed."""
    killed: set[int] = set()

    def find() -> set[Proc]:
        found = find_marked(pool, node, keep=keep)
        killed.update(proc.pid for proc in found)
        return found

    proctable.exterminate(find, timeout_s=_PATIENCE_S)
    return sorted(killed)


def find_marked(pool: str, node: str, *, keep: Collection[str] = ()) -> set[Proc]:
    """The orphans that `sweep` would kill."""
    procs = proctable.table()
    marks = {pid: _marks(pid) for pid in procs}
    ours = {pid for pid, mark in marks.items() if _of(mark, pool, node)}
    guards = {pid for pid in ours if marks[pid].get(ROLE) == "guard"}
    owned = {pid for pid in guards if _has_owner(marks[pid], procs)}
    spared = _with_all_below(procs, owned) | proctable.ancestors(procs, os.getpid())
    spared |= {pid for pid in ours if marks[pid].get(RUN_MARK) in keep}
    orphans = {pid for pid in ours if RUN_MARK in marks[pid]} | guards
    return {procs[pid] for pid in _with_all_below(procs, orphans - spared) - spared}


def clear_leftovers(place: Place) -> int:
    """Empty a slot's temporary folder and forget dead CLIs' session locks, while no run of the slot is alive.

    Gives how many entries went. What can't be removed stays: it is in nobody's way.
    """
    count = sum(_remove(entry) for entry in _entries(place.tmp))
    for lock in _entries(place.config / "sessions"):
        if lock.stem.isdigit() and proctable.look_up(int(lock.stem)) is None:
            count += _remove(lock)
    return count


def _marks(pid: int) -> dict[str, str]:
    """The pool's variables in a process's environment."""
    pairs = (
        item.partition(b"=") for item in proctable.environment(pid).split(b"\0") if item.startswith(b"CLAUDE_POOL_")
    )
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs}


def _of(marks: dict[str, str], pool: str, node: str) -> bool:
    return marks.get("CLAUDE_POOL_NAME") == pool and marks.get("CLAUDE_POOL_NODE") == node


def _has_owner(marks: dict[str, str], procs: dict[int, Proc]) -> bool:
    """Whether the slot that started this guard is alive, and not another process of its number."""
    pid, _, start = marks.get(OWNER, "").partition(":")
    owner = procs.get(int(pid)) if pid.isdigit() else None
    return owner is not None and str(owner.start_ticks) == start


def _with_all_below(procs: dict[int, Proc], pids: set[int]) -> set[int]:
    return pids | {proc.pid for proc in proctable.descendants(procs, pids)}


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _remove(entry: Path) -> bool:
    """Remove a file, a socket, a link (never what it leads to) or a folder with all in it."""
    with contextlib.suppress(OSError):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink()
    return not os.path.lexists(entry)
