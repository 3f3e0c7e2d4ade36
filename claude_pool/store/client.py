"""Client: the only door to Redis. Connections, time limits, scripts, and our errors instead of the library's.

Two sets of connections: quick ones, whose answers come at once or not at all, and patient ones for reads that wait. A
wait is cut into slices shorter than the patient socket's limit, so a server that hangs is noticed. A lost connection is
tried again a few times, a timeout never: every script gives the same answer when it is repeated. A child that was
forked opens connections of its own.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from claude_pool.errors import InvalidSettings, PoolError, StoreFull, Unreachable
from claude_pool.store.lua import Script, script

CONNECT_S: Final = 3.0
ANSWER_S: Final = 5.0
"""An answer that takes longer is none: the server hangs or its disk does."""
SLICE_MS: Final = 5_000
"""Longest single wait of a patient read."""
PATIENT_S: Final = SLICE_MS / 1000 + ANSWER_S
PIPELINE: Final = 1_000
"""Calls sent in one go; more are sent in several, so that neither side holds too much at once."""
FLAGS_SINCE: Final = 7

_REFUSES: Final = re.compile(r"(?:^|-|\s)(OOM|MISCONF|NOREPLICAS) ")
"""At the beginning of an error, or inside a script's."""

Entry = tuple[str, dict[str, str]]
"""An entry of a stream: its id and its fields."""


class ServerFacts(NamedTuple):
    """What kind of server this is, as far as it may be asked."""

    version: tuple[int, ...]
    eviction: str
    append_only: bool
    fsync: str


def address_of(url: str) -> str:
    """The URL as people may see it: without user and password. Raises InvalidSettings."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidSettings(f"redis_url is no address: {error}.") from None
    if parts.scheme == "unix":
        return f"unix://{unquote(parts.path)}"
    return f"{parts.scheme}://{parts.hostname or 'localhost'}:{port or 6379}{parts.path}"


class Client:
    """One server and one pool's scripts on it. May be used from any thread and in forked children."""

    def __init__(self, quick: Any, patient: Any, *, address: str, pool: str, real: bool = True) -> None:
        self._quick = quick
        self._patient = patient
        self._pool = pool
        self._real = real
        self._flags: bool | None = None if real else False
        self._loaded: set[str] = set()
        self.address = address
        self.epoch: str | None = None
        """The store's epoch and how much had happened there (`EPOCH@COUNT`), as this process saw it last."""

    def saw(self, moves: int) -> str:
        """Remember that so much has happened in the store, so that an older copy of it is noticed; what is known."""
        epoch, _, before = (self.epoch or "").partition("@")
        if epoch and moves > int(before or 0):
            self.epoch = f"{epoch}@{moves}"
        return self.epoch or ""

    def call(self, name: str, *args: str | int) -> Any:
        """Run one script. Raises Unreachable, StoreFull, PoolError."""
        with _translated(self.address):
            wanted = script(name, flags=self._server_has_flags())
            try:
                return self._quick.evalsha(wanted.sha, 1, self._pool, *args)
            except NoScriptError:
                wanted = self._load(name)
                return self._quick.evalsha(wanted.sha, 1, self._pool, *args)

    def call_many(self, name: str, calls: Sequence[Sequence[str | int]]) -> list[Any]:
        """Run one script many times in one go. An answer may be a PoolError; the others were carried out."""
        answers: list[Any] = []
        for start in range(0, len(calls), PIPELINE):
            answers += self._pipelined(name, calls[start : start + PIPELINE])
        return answers

    def _pipelined(self, name: str, calls: Sequence[Sequence[str | int]]) -> list[Any]:
        with _translated(self.address):
            wanted = script(name, flags=self._server_has_flags())
            if wanted.sha not in self._loaded:  # else all of it would travel twice
                wanted = self._load(name)
            answers = self._send(wanted.sha, calls)
            missed = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if missed:
                wanted = self._load(name)
                again = self._send(wanted.sha, [calls[number] for number in missed])
                for number, answer in zip(missed, again, strict=True):
                    answers[number] = answer
        return [translate(answer, self.address) if isinstance(answer, RedisError) else answer for answer in answers]

    def _send(self, sha: str, calls: Sequence[Sequence[str | int]]) -> list[Any]:
        with self._quick.pipeline(transaction=False) as pipe:
            for args in calls:
                pipe.evalsha(sha, 1, self._pool, *args)
            return pipe.execute(raise_on_error=False)

    def _load(self, name: str) -> Script:
        """Give the server the script. It may be another server by now, so its version is asked again."""
        self._flags = None if self._real else False
        wanted = script(name, flags=self._server_has_flags())
        self._quick.script_load(wanted.text)
        self._loaded.add(wanted.sha)
        return wanted

    def _server_has_flags(self) -> bool:
        if self._flags is None:
            info: dict[str, Any] = self._quick.info("server")
            self._flags = int(str(info["redis_version"]).split(".")[0]) >= FLAGS_SINCE
        return self._flags

    def last_id(self, *key: str) -> str:
        """The id of a stream's newest entry; `0-0` when it has none."""
        with _translated(self.address):
            newest: list[Entry] = self._quick.xrevrange(self._key(*key), count=1)
        return newest[0][0] if newest else "0-0"

    def read_stream(self, *key: str, after: str, limit: int, block_ms: int | None = None) -> list[Entry]:
        """Entries after the one with that id, oldest first; waits for the first one up to `block_ms`."""
        stream = self._key(*key)
        until = None if block_ms is None else time.monotonic() + block_ms / 1000
        with _translated(self.address):
            while True:
                if until is None:
                    found: Any = self._quick.xread({stream: after}, count=limit)
                else:
                    left_ms = max(1, min(SLICE_MS, round((until - time.monotonic()) * 1000)))
                    found = self._patient.xread({stream: after}, count=limit, block=left_ms)
                if found:
                    return found[0][1]
                if until is None or time.monotonic() >= until:
                    return []

    def append_stream(self, *key: str, entries: Iterable[dict[str, str]], most: int) -> None:
        """Add entries to a stream that keeps about `most` of them."""
        stream = self._key(*key)
        with _translated(self.address), self._quick.pipeline(transaction=False) as pipe:
            for fields in entries:
                pipe.xadd(stream, fields, maxlen=most, approximate=True)
            pipe.execute()

    def now_ms(self) -> int:
        """The server's clock."""
        with _translated(self.address):
            seconds, rest = self._quick.time()
        return seconds * 1000 + rest // 1000

    def facts(self) -> ServerFacts | None:
        """What the server says about itself; None for one that lives in this process."""
        if not self._real:
            return None
        with _translated(self.address):
            info: dict[str, Any] = self._quick.info()
            try:
                fsync = str(self._quick.config_get("appendfsync").get("appendfsync", ""))
            except ResponseError:
                fsync = ""  # managed servers forbid CONFIG: unknown is not wrong
        version = tuple(int(part) for part in str(info["redis_version"]).split(".") if part.isdigit())
        return ServerFacts(
            version, str(info.get("maxmemory_policy", "")), str(info.get("aof_enabled", "0")) == "1", fsync
        )

    def close(self) -> None:
        """Close all connections. Harmless twice."""
        self._quick.close()
        self._patient.close()

    def _key(self, *parts: str) -> str:
        return ":".join((self._pool, *parts))


def _redis(url: str, answer_s: float, retries: int) -> Any:
    """A client of the library, as Any: its own annotations leave most things open."""
    options: dict[str, Any] = {
        "socket_timeout": answer_s,
        "socket_connect_timeout": CONNECT_S,
        "decode_responses": True,
        "encoding_errors": "replace",
        "protocol": 2,
        "health_check_interval": 30,
        "max_connections": 1_000,
        "retry": Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.02), retries, (redis.ConnectionError,)),
    }
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    client = cast("Any", redis.Redis).from_url(url, **options)
    pool = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)  # not connected: it only shows options that nobody knows
    return client


def connect(url: str, *, pool: str) -> Client:
    """A client of the server at `redis://`, `rediss://` or `unix://`. Nothing is sent yet. Raises InvalidSettings."""
    address = address_of(url)
    try:
        quick, patient = _redis(url, ANSWER_S, 3), _redis(url, PATIENT_S, 3)
    except (ValueError, TypeError) as error:
        raise InvalidSettings(f"redis_url {address} can't be used: {error}.") from None
    return Client(quick, patient, address=address, pool=pool)


def fake_client(*, pool: str, server: Any = None) -> Client:
    """A client of a server that lives in this process: `server`, else a new one."""
    import fakeredis  # noqa: PLC0415 - an optional extra, wanted by tests and `--inline` only

    home = server if server is not None else fakeredis.FakeServer(version=(7,))
    fake = cast("Any", fakeredis.FakeRedis)(server=home, decode_responses=True)
    return Client(fake, fake, address="this process", pool=pool, real=False)


def new_fake_server() -> Any:
    """A server in this process, for several clients to share."""
    import fakeredis  # noqa: PLC0415 - an optional extra

    return fakeredis.FakeServer(version=(7,))


def ping(url: str) -> None:
    """Whether the server answers. Raises Unreachable, InvalidSettings."""
    address = address_of(url)
    with _translated(address), contextlib.closing(_redis(url, ANSWER_S, 0)) as client:
        client.ping()


def shutdown_socket(path: Path) -> bool:
    """Ask the server behind a unix socket to save and end. False when nobody is there; its end is not awaited."""
    with contextlib.closing(_redis(f"unix://{path}", ANSWER_S, 0)) as client:
        try:
            client.ping()
        except BusyLoadingError:
            pass  # loading is no reason to stay
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):  # its answer is a closed connection
            client.execute_command("SHUTDOWN")
    return True


@contextmanager
def _translated(address: str) -> Generator[None]:
    try:
        yield
    except RedisError as error:
        raise translate(error, address) from error


def translate(error: RedisError, address: str) -> PoolError:
    """Our error for one of the library's: one sentence that names the address, never the password."""
    text = str(error)
    if isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)):
        return Unreachable(f"Redis at {address} refuses the sign-in: {text}.")
    if isinstance(error, BusyLoadingError):
        return Unreachable(f"Redis at {address} is still loading its data.")
    if isinstance(error, (OutOfMemoryError, ReadOnlyError)) or _REFUSES.search(text):
        return StoreFull(f"Redis at {address} refuses writes: {text.rstrip('.')}.")
    if isinstance(error, redis.TimeoutError):
        return Unreachable(f"Redis at {address} does not answer.")
    if isinstance(error, redis.ConnectionError):
        return Unreachable(f"Redis at {address} can't be reached: {text.rstrip('.')}.")
    return PoolError(f"Redis at {address} says: {text}")
