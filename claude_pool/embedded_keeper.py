"""The keeper: a small detached process whose only child is the pool's private Redis server.

Run by path as `python -I -S`, so it knows the standard library only. Its duties: at most one server on one data folder;
a server that dies is started again, with back-off, and finds its data in the append-only file; when the last user has
left and nobody came within the linger time, the server is shut down and the keeper leaves.

Nothing here trusts a file's contents about who is alive; the kernel knows, by locks in the data folder:

    users.lock    flock: shared by every user for as long as it uses the server; exclusive by a keeper that leaves
    keeper.lock   record lock held by the keeper for life; the kernel tells its process id to whoever asks
    server.lock   record lock held by redis-server itself (it survives the exec), asked in the same way
    start.lock    flock: exclusive by the user who starts a keeper, so that twenty at once start one

When the keeper is killed, the kernel ends its server (Linux); on a system where it does not, the next keeper finds the
server by its lock and ends it before it starts its own. A server that can't be brought up at all leaves a reason
in `failed`, and the keeper gives up; one that ran before is tried again for as long as there are users.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
import time
from typing import Final, NoReturn

USERS_LOCK: Final = "users.lock"
KEEPER_LOCK: Final = "keeper.lock"
SERVER_LOCK: Final = "server.lock"
START_LOCK: Final = "start.lock"
CONF: Final = "redis.conf"
LOG: Final = "redis.log"
FAILED: Final = "failed"

GRACE_S: Final = 10.0
"""After this a server that was told to end is killed; `appendfsync always` makes that safe."""
STABLE_S: Final = 10.0
"""A server that was up for this long is no part of a series of quick deaths."""
QUICK_DEATHS: Final = 5
"""After so many in a row `failed` says why."""
_BACK_OFF_S: Final = 0.05
_BACK_OFF_MAX_S: Final = 5.0
_LOG_BYTES: Final = 1 << 20
_EX_TEMPFAIL: Final = 75
_PR_SET_PDEATHSIG: Final = 1
_SIGNALS: Final = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM})
_DARWIN: Final = sys.platform == "darwin"
_FLOCK: Final = "qqihh" if _DARWIN else "hhqqi4x"


def holder(path: str) -> int | None:
    """The process that holds the record lock on `path`; None if nobody does, 0 if it lives out of our sight."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return _holder(descriptor)
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> int | None:
    asked = (0, 0, 0, fcntl.F_WRLCK, 0) if _DARWIN else (fcntl.F_WRLCK, 0, 0, 0, 0)
    told = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(_FLOCK, *asked)))
    kind, pid = (told[3], told[2]) if _DARWIN else (told[0], told[4])
    return None if kind == fcntl.F_UNLCK else max(pid, 0)


def ask(socket_path: str, command: bytes = b"PING", *, timeout_s: float = 1.0) -> bytes:
    """What the server answers, without the protocol's frame of a long string; empty if it does not answer."""
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(timeout_s)
        link.connect(socket_path)
        link.sendall(command + b"\r\n")
        with link.makefile("rb") as lines:
            line = lines.readline().rstrip()
            return lines.read(int(line[1:])) if line.startswith(b"$") else line
    return b""


def back_off_s(deaths: int) -> float:
    """The pause before the next start after so many quick deaths in a row."""
    return min(_BACK_OFF_MAX_S, _BACK_OFF_S * 2.0 ** min(deaths - 1, 16))


def describe(status: int) -> str:
    """How a process ended, from its wait status."""
    code = os.waitstatus_to_exitcode(status)
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def say(text: str) -> None:
    """One line in the log, which is the standard error by then."""
    os.write(2, f"claude-pool keeper {os.getpid()}: {text}\n".encode(errors="replace"))


class Keeper:
    """One server and the wish to be gone. All waiting happens in `_wait`: for a signal or the next deadline."""

    def __init__(self, socket_path: str, binary: str, linger_s: float, env: dict[str, str]) -> None:
        self._socket_path = socket_path
        self._binary = binary
        self._linger_s = linger_s
        self._env = env
        self._users = os.open(USERS_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._server_lock = os.open(SERVER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._libc = None if _DARWIN else ctypes.CDLL(None)
        self._server = 0
        self._born = 0.0
        self._ready = False
        self._ever_ready = False
        self._deaths = 0
        self._users_gone = False
        self._last_user = 0
        self._start_at: float | None = None
        self._look_at: float | None = None
        self._leave_at: float | None = None

    def keep(self) -> bool:
        """Until nobody uses the server, or we are told to go, or it can't be brought up: False for that last one."""
        end_leftover(self._server_lock)
        self._start()
        self._watch()
        while True:
            if self._wait() == signal.SIGTERM:
                return self._end("told to go")
            self._reap()
            if self._given_up():
                return False
            now = time.monotonic()
            if self._start_at is not None and now >= self._start_at:
                self._start()
            if self._look_at is not None and now >= self._look_at:
                self._look(now)
            if self._lonely(now):
                return self._end("nobody uses the server")

    def _wait(self) -> int:
        """Sleep until a signal or the earliest deadline. An alarm, because macOS has no sigtimedwait."""
        dates = [date for date in (self._start_at, self._look_at, self._leave_at) if date is not None]
        signal.setitimer(signal.ITIMER_REAL, max(0.001, min(dates) - time.monotonic()) if dates else 0)
        return signal.sigwait(_SIGNALS)

    def _start(self) -> None:
        self._start_at = None
        self._ready = False
        self._born = time.monotonic()
        self._look_at = self._born + 0.005
        us = os.getpid()
        self._server = os.fork()
        if not self._server:
            self._become_server(us)

    def _become_server(self, keeper: int) -> NoReturn:
        """In the fork: die with the keeper, hold the data folder's lock, turn into redis-server."""
        try:
            if self._libc is not None:
                self._libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
            if os.getppid() == keeper:
                os.set_inheritable(self._server_lock, True)  # noqa: FBT003 - the function's only argument
                fcntl.lockf(self._server_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                os.execve(self._binary, [self._binary, CONF], self._env)  # noqa: S606 - an argument list, no shell
        except OSError as error:
            say(f"{self._binary} can't be started: {error}")
        os._exit(_EX_TEMPFAIL)

    def _reap(self) -> None:
        if not self._server:
            return
        pid, status = os.waitpid(self._server, os.WNOHANG)
        if not pid:
            return
        now = time.monotonic()
        self._server = 0
        self._look_at = None
        self._deaths = 1 if self._ready and now - self._born >= STABLE_S else self._deaths + 1
        self._start_at = now + back_off_s(self._deaths)
        say(f"redis-server {pid} {describe(status)} (death {self._deaths} in a row)")
        if self._deaths >= QUICK_DEATHS:
            write_reason(f"redis-server {describe(status)}, {self._deaths} times in a row")

    def _given_up(self) -> bool:
        return not self._ever_ready and self._deaths >= QUICK_DEATHS

    def _look(self, now: float) -> None:
        """While the server starts: does it answer yet? Looked at often in its first second, then seldom."""
        if ask(self._socket_path) == b"+PONG":
            self._ready = self._ever_ready = True
            self._look_at = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(FAILED)  # noqa: PTH108 - pathlib costs 4 ms of start-up
        else:
            self._look_at = now + min(1.0, max(0.005, (now - self._born) / 4))

    def _watch(self) -> None:
        """Have a thread wait for the last user to leave: the kernel wakes it, nobody polls."""
        self._users_gone = False
        self._leave_at = None
        _thread.start_new_thread(self._wait_for_users, ())

    def _wait_for_users(self) -> None:
        fcntl.flock(self._users, fcntl.LOCK_EX)
        fcntl.flock(self._users, fcntl.LOCK_UN)
        self._users_gone = True
        os.kill(os.getpid(), signal.SIGUSR1)

    def _lonely(self, now: float) -> bool:
        """True once the linger time has passed with no user; from then on new users wait for us to be gone."""
        if not self._users_gone:
            return False
        last_user = os.fstat(self._users).st_mtime_ns  # every user touches the lock file when it comes
        if self._leave_at is None or last_user != self._last_user:
            self._leave_at, self._last_user = now + self._linger_s, last_user
        if now < self._leave_at:
            return False
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._watch()
            return False
        return True

    def _end(self, why: str) -> bool:
        say(f"{why}: shutting down")
        if self._server:
            end_child(self._server)
        remove_socket_folder(self._socket_path)
        return True


def end_child(pid: int) -> None:
    """TERM, after the grace time KILL, and reap."""
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        left = deadline - time.monotonic()
        if left <= 0:
            say(f"redis-server {pid} did not end in {GRACE_S:g} s and is killed")
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.sigwait(_SIGNALS)


def end_leftover(server_lock: int) -> None:
    """End a server that outlived its keeper. It is no child of ours, so there is only looking whether it is gone."""
    began = time.monotonic()
    asked = forced = False
    while (pid := _holder(server_lock)) is not None:
        late = time.monotonic() - began > GRACE_S
        if pid and not asked:
            say(f"redis-server {pid} outlived its keeper: ending it")
        if pid and (not asked or (late and not forced)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            asked, forced = True, late
        if time.monotonic() - began > 2 * GRACE_S:
            reason = f"another redis-server ({pid or 'in another container'}) holds the data folder and does not end"
            write_reason(reason)
            raise SystemExit(reason)
        time.sleep(0.01)


def remove_socket_folder(socket_path: str) -> None:
    """Remove the folder that holds nothing but the socket, and the one for all such folders if it was the last."""
    folder = socket_path.rpartition("/")[0]
    if folder == os.getcwd():  # noqa: PTH109 - pathlib costs 4 ms of start-up
        return
    with contextlib.suppress(OSError):  # not empty, or gone
        os.rmdir(folder)  # noqa: PTH106 - pathlib costs 4 ms of start-up
        os.rmdir(folder.rpartition("/")[0])  # noqa: PTH106 - pathlib costs 4 ms of start-up


def write_reason(text: str) -> None:
    """Say in `failed` why there is no server: whole or not at all."""
    with open(f"{FAILED}.new", "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs 4 ms of start-up
        file.write(text)
    os.replace(f"{FAILED}.new", FAILED)  # noqa: PTH105 - pathlib costs 4 ms of start-up


def open_log() -> int:
    """The log, begun anew when it has grown; one older one is kept."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(LOG).st_size > _LOG_BYTES:  # noqa: PTH116 - pathlib costs 4 ms of start-up
            os.replace(LOG, f"{LOG}.1")  # noqa: PTH105 - pathlib costs 4 ms of start-up
    return os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def detach() -> int:
    """Go on in a process of its own session that nobody waits for; gives the pipe that tells the caller how it went.

    The caller's side never returns: it ends with 0 once the other side says `ok`, else with what that side says.
    """
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            text = told.read()
        os.write(2, b"" if text == b"ok" else text or b"the keeper died while it started")
        os._exit(0 if text == b"ok" else 1)
    os.close(reader)
    os.setsid()
    os.umask(0o077)
    log, null = open_log(), os.open(os.devnull, os.O_RDWR)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    return writer


def main(folder: str, socket_path: str, binary: str, linger_s: str, pool: str) -> NoReturn:
    """Be the keeper of `folder`, unless there is one."""
    os.chdir(folder)
    caller = detach()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    lock = os.open(KEEPER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.write(caller, b"ok")  # somebody else is the keeper, which is as good
        os._exit(0)
    os.write(caller, b"ok")
    os.close(caller)
    env = {"PATH": "/usr/bin:/bin", "LANG": "C", "CLAUDE_POOL_NAME": pool}
    code = 1
    try:
        code = 0 if Keeper(socket_path, binary, float(linger_s), env).keep() else 1
    except BaseException as error:  # noqa: BLE001 - nobody above us to tell: the log must have it
        say(f"{type(error).__name__}: {error}")
    os._exit(code)  # not sys.exit: a thread may be waiting for users for ever


if __name__ == "__main__":
    main(*sys.argv[1:])
