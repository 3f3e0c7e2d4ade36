"""The guard: a small process that owns every CLI of one slot and leaves nothing of it behind.

Killing a process is not killing its tree: the CLI's tools start children in sessions of their own, and a slot that is
killed, stopped or cut off can't clean up at all. So this process, started beside the slot as
`python -I -S -E guard.py FD` with one end of a socket pair, is the parent of the CLI and the reaper of its orphans.

    slot → guard   {"do": "spawn", "id", "argv", "env", "cwd", "mark", "until"} and three descriptors
                   {"do": "lease", "id", "until"}    {"do": "terminate", "id"}    {"do": "kill", "id"}
    guard → slot   {"spawned": id, "pid"}    {"failed": id, "errno", "where"}
                   {"exit": id, "code", "signal", "rss_kb", "cpu_s", "left", "names", "stuck", "cause"}

When the CLI ends, what it left is asked to leave, then killed, and only then is the exit reported: after the report
nothing of the run is alive. When a lease (CLOCK_BOOTTIME) passes without a newer one, the tree is killed at once. When
the socket closes, the slot is dead: everything is killed, then the guard ends. Signals other than KILL are ignored:
the slot decides. If the guard itself is killed, the CLI dies by PDEATHSIG and the slot, a subreaper too, clears up.
"""

from __future__ import annotations

import array
import errno
import json
import os
import select
import signal
import socket
import sys

if not __package__:  # run as a script in isolated mode: nothing of the distribution is on the path yet
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - see proctable

from workers import proctable
from workers.proctable import Proc, boottime_s

TYPE_CHECKING = False  # as in proctable
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn

IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE)
SETTLE_S: Final = 0.05
"""What ends by itself once the CLI is gone (helpers that read its pipes) has this long before it counts as left."""
LEAVE_S: Final = 0.3
"""After TERM, until KILL."""
STUCK_S: Final = 10.0
"""A process that is still there this long after KILL hangs in the kernel: it is reported, its signal is pending."""
LOOK_S: Final = 0.5
"""Longest sleep while something runs: poll's own clock stands still while the machine is suspended."""
PAUSE_S: Final = 0.005
PATIENCE_S: Final = 0.02
"""Between two looks at a tree that was asked to leave."""
NAMED: Final = 10
OOM_SCORE: Final = b"300"
"""When memory runs out, a run dies before its slot, its guard or somebody's editor does."""


class Child:
    """One CLI and everything that comes from it."""

    def __init__(self, order: dict[str, Any], pid: int, before: set[int]) -> None:
        self.number: int = order["id"]
        self.pid = pid
        self.mark: bytes = order["mark"].encode()
        self.until: float | None = order["until"]
        self.before = before
        found = proctable.look_up(pid)
        self.start_ticks = found.start_ticks if found else 0
        self.status: int | None = None
        self.rss_kb = 0
        self.cpu_s = 0.0
        self.cause = ""
        self.doomed_at: float | None = None
        self.left_at: float | None = None
        self.asked = False
        self.look_at = 0.0
        self.seen: set[tuple[int, int]] = set()
        self.left: dict[tuple[int, int], str] = {}

    @property
    def ending(self) -> bool:
        return self.status is not None or self.doomed_at is not None

    def doom(self, cause: str) -> None:
        """From now on the whole tree is killed."""
        if self.doomed_at is None:
            self.doomed_at = boottime_s()
            self.cause = cause
            self.look_at = 0.0

    def remember(self, tree: set[Proc]) -> None:
        """Keep who was seen, for a parent's death cuts the line of descent, and who outlived the CLI."""
        self.seen.update(proc[:2] for proc in tree)
        if self.status is not None and self.left_at is not None and (self.asked or self.doomed_at is not None):
            for proc in tree:
                self.left.setdefault(proc[:2], "" if len(self.left) >= NAMED else _name(proc.pid))

    def report(self, stuck: int) -> dict[str, Any]:
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        return {
            "exit": self.number,
            "code": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "rss_kb": self.rss_kb,
            "cpu_s": round(self.cpu_s, 3),
            "left": len(self.left),
            "names": [name for name in self.left.values() if name],
            "stuck": stuck,
            "cause": self.cause,
        }


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - see proctable
            return file.read(64).strip()
    except OSError:
        return "?"


class Guard:
    """The loop: hear the slot, reap, look after each child; ends when the slot is gone and nothing is left."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._slot = os.getppid()
        self._children: dict[int, Child] = {}
        self._heard = b""
        self._descriptors: list[int] = []
        self._childless = False
        self._closing_since: float | None = None
        self._wake, self._wakes = os.pipe()
        for descriptor in (self._wake, self._wakes):
            os.set_blocking(descriptor, False)
        connection.settimeout(0)

    def run(self) -> None:
        proctable.become_subreaper()
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, _wake_up)
        signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._connection, select.POLLIN)
        try:
            self._serve(poll)
        finally:  # whatever happened to us: what we own must not outlive us
            for child in list(self._children.values()):
                proctable.exterminate(lambda child=child: self._tree(child), timeout_s=STUCK_S)

    def _serve(self, poll: select.poll) -> None:
        while self._closing_since is None or (self._children and boottime_s() < self._closing_since + STUCK_S + 1):
            ready = dict(poll.poll(self._sleep_ms()))
            if self._wake in ready:
                os.read(self._wake, 4096)
            if self._closing_since is None and (self._connection.fileno() in ready or os.getppid() != self._slot):
                self._hear()
                if self._closing_since is not None:
                    poll.unregister(self._connection)
            self._reap()
            for child in list(self._children.values()):
                self._look_after(child)

    def _sleep_ms(self) -> int | None:
        """Until the next thing is due: a lease's end, or another look at a tree that is going down."""
        now = boottime_s()
        due = [child.look_at if child.ending else child.until or now + LOOK_S for child in self._children.values()]
        return None if not due else max(0, round(1000 * min(LOOK_S, min(due) - now)) + 1)

    # What the slot says

    def _hear(self) -> None:
        """Read all there is; no more to come, ever, means that the slot is gone."""
        try:
            while data := self._receive():
                *lines, self._heard = (self._heard + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
        except BlockingIOError:
            if os.getppid() == self._slot:
                return
        except (OSError, ValueError, KeyError, TypeError):  # cut off, or talking nonsense: as good as gone
            pass
        self._lose_slot()

    def _receive(self) -> bytes:
        room = socket.CMSG_SPACE(3 * array.array("i").itemsize)
        data, ancillary, _, _ = self._connection.recvmsg(1 << 16, room, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(content[: len(content) - len(content) % received.itemsize])
                for descriptor in received:
                    os.set_inheritable(descriptor, False)  # noqa: FBT003 - it takes no keyword
                self._descriptors += received
        return data

    def _obey(self, order: dict[str, Any]) -> None:
        if order["do"] == "spawn":
            self._spawn(order)
            return
        child = self._children.get(order["id"])
        if child is None:  # it ended while the order was on its way
            return
        if order["do"] == "lease":
            child.until = order["until"]
        elif order["do"] == "kill":
            child.doom("kill")
        elif order["do"] == "terminate" and child.status is None:
            os.kill(child.pid, signal.SIGTERM)

    def _say(self, report: dict[str, Any]) -> None:
        """Tell the slot; a slot that can't take these few bytes has not listened for ages and counts as gone."""
        if self._closing_since is None:
            try:
                self._connection.sendall(json.dumps(report).encode() + b"\n")
            except OSError:
                self._lose_slot()

    def _lose_slot(self) -> None:
        self._closing_since = boottime_s()
        for child in self._children.values():
            child.doom("slot")

    # Starting a CLI

    def _spawn(self, order: dict[str, Any]) -> None:
        streams, self._descriptors = self._descriptors[:3], self._descriptors[3:]
        told, tells = os.pipe()
        guard, before = os.getpid(), proctable.numbers()
        pid = os.fork()
        if pid == 0:
            _become(order, streams, tells, guard)
        for descriptor in (tells, *streams):
            os.close(descriptor)
        with os.fdopen(told, "rb") as failure:
            trouble = failure.read()
        if trouble:
            os.waitpid(pid, 0)
            number, _, where = trouble.decode().partition(" ")
            self._say({"failed": order["id"], "errno": int(number), "where": where})
            return
        self._children[order["id"]] = Child(order, pid, before)
        self._say({"spawned": order["id"], "pid": pid})

    # Ending a tree

    def _reap(self) -> None:
        """Collect every child that ended: CLIs, and orphans that fell to us."""
        by_pid = {child.pid: child for child in self._children.values() if child.status is None}
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                return
            if pid == 0:
                self._childless = False
                return
            if child := by_pid.get(pid):
                child.status = status
                child.left_at = child.look_at = boottime_s()
                child.rss_kb = used.ru_maxrss if proctable.LINUX else used.ru_maxrss // 1024
                child.cpu_s = used.ru_utime + used.ru_stime

    def _look_after(self, child: Child) -> None:
        """Take one child one step further towards its end, if it is due."""
        now = boottime_s()
        if child.until is not None and now >= child.until and child.status is None:
            child.doom("lease")
        if not child.ending or now < child.look_at:
            return
        if not proctable.LINUX:
            _kill_group(child)
        tree = set[Proc]() if self._left_nothing(child) else self._tree(child)
        if child.doomed_at is not None:
            self._kill(child, now)
        elif not tree:
            self._settle(child, 0)
        elif child.left_at is not None:
            self._ask_to_leave(child, tree, now - child.left_at)

    def _left_nothing(self, child: Child) -> bool:
        """The usual end, seen without a look at all processes: a subreaper without children has no descendants."""
        if not self._childless or child.doomed_at is not None:
            return False
        return not any(proctable.carries(pid, child.mark) for pid in proctable.numbers() - child.before)

    def _ask_to_leave(self, child: Child, tree: set[Proc], since_s: float) -> None:
        """The CLI left by itself and others stayed: a moment, then TERM, then KILL."""
        if since_s < SETTLE_S:
            child.look_at = boottime_s() + PATIENCE_S
        elif not child.asked:
            child.asked = True
            child.remember(tree)
            for proc in tree:
                proctable.send(proc, signal.SIGTERM)
            child.look_at = boottime_s() + PATIENCE_S
        elif since_s < SETTLE_S + LEAVE_S:
            child.look_at = boottime_s() + PATIENCE_S
        else:
            child.doom("")

    def _kill(self, child: Child, now: float) -> None:
        found = proctable.freeze_and_kill(lambda: self._tree(child))
        self._reap()
        if not found and child.status is not None:
            self._settle(child, 0)
        elif child.doomed_at is not None and now > child.doomed_at + STUCK_S:
            self._settle(child, len(found))
        else:
            child.look_at = boottime_s() + PAUSE_S

    def _settle(self, child: Child, stuck: int) -> None:
        del self._children[child.number]
        self._say(child.report(stuck))

    def _tree(self, child: Child) -> set[Proc]:
        """Everything that is this child's: below it, marked as its run's, seen there before, or an orphan of it.

        An orphan without a mark can't be told from another child's. It is given to the oldest child: a younger one is a
        spare that has not begun.
        """
        procs = proctable.table()
        me = os.getpid()
        others = {other.pid for other in self._children.values() if other is not child}
        theirs = {proc.pid for proc in proctable.descendants(procs, others)} | others | {me}
        oldest = min(self._children.values(), key=lambda one: one.number) is child
        roots: set[Proc] = set()
        for proc in procs.values():
            if proc.pid in theirs or proc.start_ticks < child.start_ticks:
                continue
            orphan = proc.ppid == me and proc.pid not in others
            mine = proc[:2] == (child.pid, child.start_ticks) or proc[:2] in child.seen
            marked = mine or proctable.carries(proc.pid, child.mark)
            if marked or (orphan and oldest and not self._other_mark(proc, child)):
                roots.add(proc)
        tree = roots | proctable.descendants(procs, [proc.pid for proc in roots])
        tree = {proc for proc in tree if proc.pid not in theirs}
        child.remember(tree)
        return tree

    def _other_mark(self, proc: Proc, child: Child) -> bool:
        return any(proctable.carries(proc.pid, other.mark) for other in self._children.values() if other is not child)


def _wake_up(*_: object) -> None:
    """A handler has to be there, or the wake-up pipe stays silent."""


def _kill_group(child: Child) -> None:
    """Without /proc: the group is all that can be named."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except OSError:
        return


def _become(order: dict[str, Any], streams: list[int], tells: int, guard: int) -> NoReturn:
    """In the forked child: turn into the CLI, or say why not."""
    where = "start"
    try:
        os.setsid()
        proctable.die_with_parent(signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(127)
        for number in (*IGNORED, signal.SIGCHLD, getattr(signal, "SIGXFSZ", signal.SIGCHLD)):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for wanted, descriptor in enumerate(streams):
            os.dup2(descriptor, wanted)
        _offer_to_the_oom_killer()
        where = "cwd"
        os.chdir(order["cwd"])
        where = "exec"
        os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(tells, f"{error.errno or errno.EINVAL} {where}".encode())
    except BaseException as error:  # noqa: BLE001 - whatever it is, two guards must not go on from here
        os.write(tells, f"{errno.EINVAL} {where}: {error}".encode())
    finally:
        os._exit(127)


def _offer_to_the_oom_killer() -> None:
    try:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:  # noqa: PTH123 - see proctable
            file.write(OOM_SCORE)
    except OSError:
        return


def main() -> None:
    """Guard the slot at the other end of the socket whose number is the only argument."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    Guard(connection).run()


if __name__ == "__main__":
    main()
