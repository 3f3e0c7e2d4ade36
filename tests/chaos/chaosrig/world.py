"""The virtual world: one seed, one clock that can be moved, a queue that loses and repeats doorbells, real scripts.

Everything happens in one thread, step by step, in an order that the seed decides; so a seed gives the same history
again. Only the store is real: the scripts as they are (but for the clock, see `scripts.CLOCK`) on a real Redis, which
is killed and started again between steps. A call to it may be carried out without its answer coming back, be repeated,
or not be carried out at all: what a client sees of a server that dies.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from unittest import mock

from chaosrig.history import Fault, History, Money, Submission
from claude_pool import ids
from claude_pool.config import PoolConfig
from claude_pool.errors import Unreachable
from claude_pool.models.events import TaskEvent
from claude_pool.store.base import Doorbell
from claude_pool.store.house import RedisHouse
from claude_pool.store.redis import RedisStore, open_store
from claude_pool.testing.ledger import Execution
from claude_pool.testing.redis_server import RedisServer
from workers import housekeeper

T = TypeVar("T")

LEASE_MS = 300
SLACK_MS = 60
LOSSES = {
    "bell_lost": 0.03, "bell_repeated": 0.05, "answer_lost": 0.01, "never_sent": 0.005, "call_repeated": 0.02,
    "stop_unheard": 0.6,
}  # fmt: skip
"""How likely each is, per doorbell and per call; a run that is told to stop may be at its end before it hears of it."""


@dataclass(slots=True)
class Running:
    """One execution under way: the truth that the ledger of a fake `claude` would hold."""

    task: str
    run: str
    start_s: float
    paid: int = 0


class _House(RedisHouse):
    def __init__(self, store: RedisStore, world: World) -> None:
        super().__init__(store.client)
        self._world = world

    def now_ms(self) -> int:
        return self._world.now_ms + self._world.jumped_ms


@dataclass
class World:
    """The stage: clock, store, doorbells, faults, and the evidence that is gathered on the way."""

    seed: int
    server: RedisServer
    config: PoolConfig
    faults: bool = True
    rng: random.Random = field(init=False)
    history: History = field(init=False)
    store: RedisStore = field(init=False)
    now_ms: int = 1_700_000_000_000
    """The world's time; it has nothing to do with ours."""
    jumped_ms: int = 0
    """By how much the store's clock has left everybody else's."""
    bells: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    running: dict[str, Running] = field(default_factory=dict)
    sessions: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    executed: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How often each task's failures were played."""
    guards: list[Callable[[], None]] = field(default_factory=list)
    """Called whenever time has moved, before anybody else may act."""
    cursor: str = ""
    pids: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.history = History(self.seed)
        store = open_store(self.server.url, self.config)
        self.store = replace(store, house=_House(store, self))
        self.raw("CONFIG", "SET", "appendfsync", "no")  # what is written survives the kill of the process all the same
        self.advance(0)
        self.store.pool.prepare(epoch=None)

    # Time

    def advance(self, ms: int) -> None:
        """Let time pass; the guards act first, as they do on a real host, for they sleep until their deadline."""
        self.now_ms += ms
        self.raw("SET", self.key("now"), str(self.now_ms + self.jumped_ms))
        for guard in self.guards:
            guard()

    @contextmanager
    def own_clock(self) -> Iterator[None]:
        """The housekeeper's view of this host's time since boot."""
        with mock.patch.object(housekeeper, "_own_ms", self._own_ms):
            yield

    def _own_ms(self) -> int:
        return self.now_ms

    @contextmanager
    def own_ids(self) -> Iterator[None]:
        """Ids come from the seed too: the store orders by them what came at the same time."""
        ids_rng = random.Random(self.seed + 1)

        def seeded() -> uuid.UUID:
            return uuid.UUID(bytes=ids_rng.randbytes(16), version=4)

        with (
            mock.patch.object(ids.secrets, "token_bytes", ids_rng.randbytes),
            mock.patch.object(ids.uuid, "uuid4", seeded),
        ):
            yield

    # The store, seen from far

    def chance(self, name: str) -> bool:
        """Whether this loss happens now."""
        return self.faults and self.rng.random() < LOSSES[name]

    def ask(self, call: Callable[[], T]) -> T:
        """Call the store as over a line that breaks: not sent, sent without an answer, sent twice."""
        if self.chance("never_sent"):
            raise Unreachable("the server went away before")
        answer = call()
        if self.chance("answer_lost"):
            raise Unreachable("the server went away after")
        return call() if self.chance("call_repeated") else answer

    def key(self, *parts: str) -> str:
        return ":".join((self.config.name, *parts))

    def raw(self, *words: str) -> Any:
        """A command that no caller may send."""
        return self.store.client._quick.execute_command(*words)

    def fault(self, kind: str, target: str = "") -> None:
        self.history.faults.append(Fault(time.time(), kind, target))

    def kill_redis(self) -> None:
        """kill -9 and a new start on the same data."""
        self.fault("redis_kill")
        self.server.restart()
        self.raw("CONFIG", "SET", "appendfsync", "no")

    # Doorbells: the double of `claude_pool.broker.Broker`

    def ring(self, bells: Sequence[Doorbell]) -> None:
        for bell in bells:
            if self.chance("bell_lost"):
                self.fault("bell_lost", bell.task_id)
                continue
            copies = 2 if self.chance("bell_repeated") else 1
            self.bells[bell.queue] += [bell.task_id] * copies

    def waiting(self, queue: str) -> int:
        return len(self.bells[queue])

    def close(self) -> None:
        self.store.close()

    def hear(self, queues: Sequence[str]) -> str | None:
        """The next doorbell for who listens to these queues, not always the oldest."""
        for queue in queues:
            if found := self.bells[queue]:
                return found.pop(self.rng.randrange(min(len(found), 20)))
        return None

    # Evidence

    def begin(self, task: str, run: str) -> None:
        self.running[run] = Running(task, run, time.time())

    def end(self, run: str, outcome: str | None) -> None:
        """An execution is over; without an outcome it was killed. Harmless when it is over already."""
        one = self.running.pop(run, None)
        if one is not None:
            self.history.executions.append(
                Execution(one.task, run, 0, one.start_s, time.time(), ended=outcome is not None, outcome=outcome,
                          cost_usd=one.paid / 1e6)
            )  # fmt: skip

    def told(self, submission: Submission) -> None:
        self.history.submissions.append(submission)

    def watch(self) -> None:
        """Read what happened since, and look at the money."""
        events: list[TaskEvent]
        while True:
            events, self.cursor = self.store.events.read(self.cursor, limit=5000)
            self.history.events += events
            if len(events) < 5000:
                break
        self.history.samples.append(self.money())

    def money(self) -> Money:
        limit, reserved, spent = self.raw("HMGET", self.key("ledger", "pool"), "limit", "reserved", "spent")
        return Money(None if limit is None else int(limit), int(reserved or 0), int(spent or 0))
