"""The kernel's table of processes: who descends from whom, who carries a mark, and a kill that can't hit a stranger.

A process is a pid *and* its start time, because pids are used again; every signal goes through a pidfd and is preceded
by a look at the start time. Standard library only and cheap to import: the guard lives on nothing else. Where there is
no `/proc` (macOS) the table is empty, and callers fall back to process groups.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

TYPE_CHECKING = False  # spares each guard the 1 MB and the milliseconds that importing typing costs
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Final, NamedTuple

    class Proc(NamedTuple):
        """One process; `pid` and `start_ticks` together name it for as long as the machine is up."""

        pid: int
        start_ticks: int
        ppid: int
        sid: int
else:
    from collections import namedtuple

    Proc = namedtuple("Proc", ("pid", "start_ticks", "ppid", "sid"))  # noqa: PYI024 - typing's own would import it

LINUX: Final = sys.platform == "linux"
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_FREEZE_ROUNDS: Final = 100
"""More than any tree needs; a bomb that forks faster than we stop it meets its process limit first."""
_LOOKS: Final = 5
"""Second looks for those that came while the table was read."""
_PAUSE_S: Final = 0.005
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if LINUX else None


def boottime_s() -> float:
    """Seconds since boot, suspend included: the clock of leases. macOS counts sleep in its monotonic clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def become_subreaper() -> bool:
    """Make orphans among our descendants our children instead of init's; False where the system can't."""
    return _LIBC is not None and _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def die_with_parent(number: int) -> None:
    """Be sent this signal when the thread that forked us ends; does nothing where the system can't."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def look_up(pid: int) -> Proc | None:
    """The process of that number if it is alive; a zombie is not, unless a thread of it still runs."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - pathlib costs the guard 3 ms of start
            fields = file.read(4096).rpartition(b")")[2].split()
        state, threads = fields[0], int(fields[17])
    except (OSError, IndexError):
        return None
    if state in b"ZX" and threads <= 1:
        return None
    return Proc(pid, int(fields[19]), int(fields[1]), int(fields[3]))


def born(pid: int) -> int:
    """When a living process started, in ticks since boot; 0 of any other."""
    found = look_up(pid)
    return found.start_ticks if found else 0


def table() -> dict[int, Proc]:
    """All living processes by pid, the youngest first; empty where there is no /proc.

    The youngest are read first, and who came meanwhile right after: a process that walks on by forking and leaving is
    gone from a list that is read in any other order before its turn has come.
    """
    found: dict[int, Proc] = {}
    seen: set[int] = set()
    for _ in range(_LOOKS):
        fresh = sorted(numbers() - seen, reverse=True)
        if not fresh:
            break
        seen.update(fresh)
        found.update((pid, proc) for pid in fresh if (proc := look_up(pid)))
    return dict(sorted(found.items(), reverse=True))


def numbers() -> set[int]:
    """The pids in use, zombies included: a fraction of the price of `table`. Empty where there is no /proc."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} if LINUX else set()  # noqa: PTH208 - see above


def descendants(procs: dict[int, Proc], roots: Iterable[int]) -> set[Proc]:
    """Everything below these pids, without them."""
    children: dict[int, list[Proc]] = {}
    for proc in procs.values():
        children.setdefault(proc.ppid, []).append(proc)
    found: set[Proc] = set()
    queue = list(roots)
    while queue:
        more = [proc for proc in children.get(queue.pop(), ()) if proc not in found]
        found.update(more)
        queue += [proc.pid for proc in more]
    return found


def ancestors(procs: dict[int, Proc], pid: int) -> set[int]:
    """This pid and all pids above it."""
    found: set[int] = set()
    while pid in procs and pid not in found:
        found.add(pid)
        pid = procs[pid].ppid
    return found


def environment(pid: int) -> bytes:
    """The environment that a process was started with, as `NUL name=value NUL … NUL`; empty if unreadable."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123 - see above
            return b"\0" + file.readall() + b"\0"
    except OSError:
        return b""


def carries(pid: int, mark: bytes) -> bool:
    """Whether `name=value` is in the environment that the process was started with; nobody carries an empty mark."""
    return bool(mark) and b"\0" + mark + b"\0" in environment(pid)


def send(proc: Proc, number: int) -> bool:
    """Signal exactly this process; False if it is gone, or its number is somebody else's by now."""
    try:
        pidfd = os.pidfd_open(proc.pid)
    except ProcessLookupError:
        return False
    except (OSError, AttributeError):  # an old kernel, or no Linux: the look is all the care we can take
        return _send_by_pid(proc, number)
    try:
        now = look_up(proc.pid)
        if now is None or now.start_ticks != proc.start_ticks:
            return False
        signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(pidfd)
    return True


def _send_by_pid(proc: Proc, number: int) -> bool:
    now = look_up(proc.pid)
    if now is None or now.start_ticks != proc.start_ticks:
        return False
    try:
        os.kill(proc.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def freeze_and_kill(find: Callable[[], set[Proc]]) -> set[Proc]:
    """Stop what `find` finds until it finds nothing new, then kill it all; gives what was found.

    Stopping first is what catches a tree that forks while it is being killed: a stopped parent has no more children,
    and a killed one would make room for them.
    """
    stopped: set[tuple[int, int]] = set()
    found: set[Proc] = set()
    for _ in range(_FREEZE_ROUNDS):
        found = find()
        fresh = [proc for proc in found if proc[:2] not in stopped]
        if not fresh:
            break
        for proc in fresh:
            stopped.add(proc[:2])
            send(proc, signal.SIGSTOP)
    for proc in found:
        send(proc, signal.SIGKILL)
    return found


def exterminate(find: Callable[[], set[Proc]], *, timeout_s: float) -> tuple[int, int]:
    """Kill what `find` finds until it finds nothing; gives how many were killed and how many would not go in time."""
    seen: set[tuple[int, int]] = set()
    deadline = time.monotonic() + timeout_s
    while found := freeze_and_kill(find):
        seen.update(proc[:2] for proc in found)
        if time.monotonic() > deadline:
            return len(seen) - len(found), len(found)
        time.sleep(_PAUSE_S)
    return len(seen), 0
