"""The slot's side of the guard: start a CLI under it, renew its lease, end it, learn how it ended.

One thread (the runner's) spawns and waits; any thread may call `renew`, `terminate` and `kill`. A guard that is gone is
noticed at once (its socket closes): then everything that carries the run's mark, and every orphan that fell to this
process, is killed here, the run is reported as ended, and the next `spawn` starts a new guard. After `wait_exit` has
given the facts, nothing of that run is alive, whoever did the killing.

Leases are deadlines on CLOCK_BOOTTIME (`boottime_s`). `renew` before `spawn` is allowed and meant: a CLI that is
spawned under a lease that has passed is killed at once, so a slot that slept between its claim and its start spends
nothing. One `Guard` serves all runs of a slot: it replaces its process when that is lost and keeps the deadline.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from claude_pool import processes
from claude_pool.errors import CliError
from claude_pool.models.run import ExitFacts
from workers import proctable
from workers.proctable import Proc, boottime_s

__all__ = ["Child", "Ended", "Guard", "boottime_s"]

RUN_MARK: Final = "CLAUDE_POOL_RUN"
ROLE: Final = "CLAUDE_POOL_ROLE"
OWNER: Final = "CLAUDE_POOL_OWNER"
"""In a guard's environment: `pid:start` of its slot, by which a sweep sees whether that is still there."""
_GUARD_ROLE: Final = f"{ROLE}=guard".encode()
_SPAWN_S: Final = 30.0
"""A guard that has not answered a spawn by then is not going to."""
_SEND_S: Final = 5.0
_CLOSE_S: Final = 12.0
_CLEAR_S: Final = 10.0
_KILL_S: Final = 5.0
_REMEMBERED: Final = 64
"""Ended children whose facts can still be asked for."""
_NEEDED: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH")
"""What an interpreter may need to start at all; everything else stays out of the guard."""


@dataclass(frozen=True, slots=True)
class Child:
    """One CLI as it was started: its number at the guard, its pid, our ends of its three streams (raw descriptors)."""

    number: int
    pid: int
    stdin: int
    stdout: int
    stderr: int
    mark: str
    program: str = ""
    cwd: str = ""
    since: int = 0
    """When its guard started, in the kernel's ticks: nothing that is older can be of its tree."""

    def close(self) -> None:
        """Close our ends; for who does not close them one by one."""
        _close_all((self.stdin, self.stdout, self.stderr))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended. `cause` is `lease`, `kill`, `guard` (it was lost) or empty: by itself, or by TERM."""

    facts: ExitFacts
    cause: str = ""
    left_names: tuple[str, ...] = ()
    stuck: int = 0
    """Processes that did not go although they were killed: they hang in the kernel."""


class Guard:
    """A running guard process and the children under it. Use as a context manager, or `close` it."""

    def __init__(self, mark: Mapping[str, str]) -> None:
        self._mark = dict(mark)
        self._process: processes.Process | None = None
        self._socket: socket.socket | None = None
        self._sending = threading.Lock()
        self._heard = b""
        self._next = 0
        self._current: Child | None = None
        self._living: dict[int, Child] = {}
        self._ended: dict[int, Ended] = {}
        self._answers: dict[int | None, dict[str, Any]] = {}
        self._deadline: float | None = None
        self._killed_at: dict[int, float] = {}

    @classmethod
    def start(cls, *, mark: Mapping[str, str]) -> Self:
        """Start a guard whose own environment carries `mark`. Makes this process a subreaper. Raises CliError."""
        guard = cls(mark)
        guard._launch()
        return guard

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The guard's own pid."""
        return None if self._process is None else self._process.pid

    def fileno(self) -> int:
        """For selectors: readable means that `poll_exit` may have news. -1 while there is no guard."""
        return -1 if self._socket is None else self._socket.fileno()

    def spawn(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, *, deadline: float | None = None) -> Child:
        """Start a CLI under the guard, with a lease until `deadline` (default: what `renew` said last).

        `env` must hold CLAUDE_POOL_RUN, by which its processes are known. Raises CliError, which says why it could
        not be executed.
        """
        child = self.settle(self.begin(argv, env, cwd, deadline=self._deadline if deadline is None else deadline))
        self._current = child
        if child.number in self._ended:  # its exit came in one piece with its start
            self._deadline = None
        return child

    def begin(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, *, deadline: float | None) -> Child:
        """Give the order for a CLI and don't wait for it: `settle` tells what became of it. Raises CliError."""
        mark = f"{RUN_MARK}={env[RUN_MARK]}"
        if not self.alive:
            self._lose()
            self._launch()
        self._next += 1
        number = self._next
        order = {"id": number, "argv": list(argv), "env": dict(env), "cwd": cwd, "mark": mark, "until": deadline}
        pipes = [os.pipe() for _ in range(3)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
        child = Child(number, 0, *ours, mark=mark, program=argv[0], cwd=cwd, since=proctable.born(self.pid or 0))
        try:
            self._send({"do": "spawn", **order}, theirs)
        except CliError:
            child.close()
            _clear(child)
            raise
        finally:
            _close_all(theirs)
        self._living[number] = child
        return child

    def settle(self, child: Child) -> Child:
        """Wait until a child that was ordered is there, or was. Raises CliError, which says why it is not."""
        try:
            answer = self._answer(child)
        except CliError:
            child.close()
            raise
        if "failed" in answer:
            self._living.pop(child.number, None)
            child.close()
            raise CliError(_why(child, answer))
        child = replace(child, pid=answer["pid"])
        if child.number in self._living:
            self._living[child.number] = child
        return child

    def adopt(self, child: Child) -> None:
        """Make a child that waited the current one: from now on it lives under the lease that `renew` says."""
        self._current = child
        self._order("lease", child, until=self._deadline)

    def rest(self, child: Child, until: float) -> None:
        """Let a child that is not in use wait until this CLOCK_BOOTTIME second. Any thread."""
        if self._current is not None and self._current.number == child.number:
            self._current = self._deadline = None
        self._order("lease", child, until=until)

    def renew(self, deadline: float | None) -> None:
        """Let the current child live until this CLOCK_BOOTTIME second; None means without a limit. Any thread."""
        self._deadline = deadline
        if child := self._current:
            self._order("lease", child, until=deadline)

    def terminate(self, child: Child | None = None) -> None:
        """TERM to the CLI itself: it ends its own tree and leaves. Any thread."""
        self._order("terminate", child)

    def kill(self, child: Child | None = None) -> None:
        """End the whole tree now; `wait_exit` tells when it is gone. Any thread.

        A guard that has not managed it within seconds is stopped or hung: the waiting thread then kills guard and tree.
        """
        if child := child or self._current:
            self._killed_at.setdefault(child.number, time.monotonic())
            self._order("kill", child)

    def poll_exit(self, child: Child | None = None) -> Ended | None:
        """How the child (default: the current one) ended, if it has."""
        return self._wait(child or self._current, 0)

    def wait_exit(self, timeout_s: float, child: Child | None = None) -> ExitFacts | None:
        """Wait for the end of the child (default: the current one) and of its whole tree; None if it lives on."""
        ended = self._wait(child or self._current, timeout_s)
        return None if ended is None else ended.facts

    def close(self) -> None:
        """End the guard and with it every child. Nothing of them is alive afterwards."""
        self._lose()

    # The guard process

    def _launch(self) -> None:
        proctable.become_subreaper()
        ours, theirs = socket.socketpair()
        ours.settimeout(_SEND_S)
        needed = {name: os.environ[name] for name in _NEEDED if name in os.environ}
        env = {**needed, **self._mark, ROLE: "guard", OWNER: f"{os.getpid()}:{proctable.born(os.getpid())}"}
        script = str(Path(__file__).with_name("guard.py"))
        argv = [sys.executable, "-I", "-S", "-E", script, str(theirs.fileno())]
        try:
            self._process = processes.start(argv, env=env, cwd="/", stderr=2, pass_fds=[theirs.fileno()])
        except OSError as error:
            ours.close()
            raise CliError(f"the guard can't be started: {error}") from error
        finally:
            theirs.close()
        self._heard = b""
        with self._sending:
            self._socket = ours

    def _lose(self, *, hung: bool = False) -> None:
        """The guard is gone, or shall be: see to it, then clear what it left of its children."""
        with self._sending:
            connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()
        if self._process is not None:
            with contextlib.suppress(processes.WaitTimeout):
                self._process.wait(0 if hung else _CLOSE_S)
            processes.end(self._process, grace_s=0)
            self._process = None
        for child in list(self._living.values()):
            killed, stuck = _clear(child)
            facts = ExitFacts(signal=signal.SIGKILL, left_behind=killed)
            self._note(child.number, Ended(facts, cause="guard", stuck=stuck))

    # The conversation

    def _order(self, what: str, child: Child | None, **more: Any) -> None:
        if child := child or self._current:
            with contextlib.suppress(CliError):  # the guard is gone: whoever waits for the child learns it
                self._send({"do": what, "id": child.number, **more})

    def _send(self, order: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send one order whole. A guard that takes nothing for seconds is hung and is as good as gone: it is killed."""
        data = json.dumps(order).encode() + b"\n"
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        with self._sending:
            if self._socket is None:
                raise CliError("the guard is gone")
            try:
                sent = self._socket.sendmsg([data], rights)
                self._socket.sendall(data[sent:])
            except OSError as error:
                if self._process is not None:
                    self._process.kill()
                raise CliError(f"the guard is gone: {error}") from error

    def _answer(self, child: Child) -> dict[str, Any]:
        """What became of a spawn."""
        deadline = time.monotonic() + _SPAWN_S
        while child.number not in self._answers:
            left = deadline - time.monotonic()
            if child.number in self._living and (left <= 0 or not self._listen(left)):
                self._lose(hung=True)
            if child.number not in {*self._living, *self._answers}:
                raise CliError("the guard was lost while it started the CLI")
        return self._answers.pop(child.number)

    def _wait(self, child: Child | None, timeout_s: float) -> Ended | None:
        if child is None:
            return None
        deadline = time.monotonic() + timeout_s
        while child.number in self._living:
            now = time.monotonic()
            patience_s = self._killed_at.get(child.number, now) + _KILL_S - now
            if patience_s <= 0:
                self._lose(hung=True)
            elif not self._listen(min(deadline - now, patience_s)):
                self._lose()
            elif now >= deadline and child.number in self._living:
                return None
        return self._ended[child.number]

    def _listen(self, timeout_s: float) -> bool:
        """Take in what the guard says within this time, returning after the first of it; False if it is gone."""
        if self._socket is None:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(max(0.0, timeout_s) * 1000):
            return True
        try:
            data = self._socket.recv(1 << 16)
        except OSError:
            data = b""
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        return bool(data)

    def _take(self, report: dict[str, Any]) -> None:
        if "exit" not in report:
            self._answers[report.get("spawned", report.get("failed"))] = report
            return
        facts = ExitFacts(
            code=report["code"],
            signal=report["signal"],
            left_behind=report["left"],
            max_rss_kb=report["rss_kb"],
            cpu_s=report["cpu_s"],
        )
        self._note(report["exit"], Ended(facts, report["cause"], tuple(report["names"]), report["stuck"]))

    def _note(self, number: int, ended: Ended) -> None:
        self._living.pop(number, None)
        self._killed_at.pop(number, None)
        self._ended[number] = ended
        self._ended.pop(number - _REMEMBERED, None)
        if self._current is not None and self._current.number == number:
            self._deadline = None


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _why(child: Child, answer: Mapping[str, Any]) -> str:
    reason = os.strerror(answer["errno"])
    in_cwd = answer["where"] == "cwd"
    return f"no such working directory: {child.cwd}: {reason}" if in_cwd else f"{child.program}: {reason}"


def _clear(child: Child) -> tuple[int, int]:
    """Kill here, without a guard, what is left of a child; gives how many were killed and how many would not go."""
    if not proctable.LINUX and child.pid:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        return 0, 0
    seen = {child.pid} if child.pid else set[int]()

    def find() -> set[Proc]:
        found = _left_of(child)
        seen.update(proc.pid for proc in found)
        return found

    result = proctable.exterminate(find, timeout_s=_CLEAR_S)
    for pid in seen:  # those that fell to us are ours to reap; the others are not our children
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return result


def _newer(proc: Proc, child: Child) -> bool:
    return proc.start_ticks >= child.since and not proctable.carries(proc.pid, _GUARD_ROLE)


def _left_of(child: Child) -> set[Proc]:
    """What carries the run's mark, what fell to this process as an orphan, and all below them.

    A direct child in another session than ours that came after the guard and is none is an orphan of the guard that
    died: a slot starts nothing else that would outlive a call.
    """
    procs = proctable.table()
    me = procs[os.getpid()]
    roots = {
        proc
        for proc in procs.values()
        if proctable.carries(proc.pid, child.mark.encode())
        or (proc.ppid == me.pid and proc.sid != me.sid and _newer(proc, child))
    }
    return (roots | proctable.descendants(procs, [proc.pid for proc in roots])) - {me}
