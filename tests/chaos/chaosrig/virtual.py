"""One run of chaos at protocol level: a seed in, a history out.

Slots, clients, two housekeepers and an operator take turns in an order that the seed decides, while things are broken;
then the faults stop, money is given, and everything has to come to its end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from chaosrig.actors import Client, VirtualSlot
from chaosrig.history import History
from chaosrig.scripts import CLOCK, Edit, edited
from chaosrig.world import LEASE_MS, SLACK_MS, World
from claude_pool.config import PoolConfig
from claude_pool.errors import Unreachable
from claude_pool.models.task import TaskDetail, TaskState
from claude_pool.store.base import TaskFilter
from claude_pool.testing.redis_server import RedisServer
from workers.housekeeper import Housekeeper
from workers.journal import Entry

LIMIT_USD = 2.0


@dataclass(frozen=True, slots=True)
class Storm:
    """How much of what."""

    tasks: int = 1_000
    slots: int = 16
    kills: int = 100
    stalls: int = 100
    cli_kills: int = 30
    redis_kills: int = 3
    meddling: int = 200
    jumps: int = 2
    """Jumps of the store's clock."""
    losses: bool = True
    """Calls and doorbells are lost and repeated."""
    patience_ms: int = 600_000
    """Once the faults are over: far longer than any retry, limit or doorbell takes. Who is not at its end has stuck."""

    @classmethod
    def of(cls, tasks: int, **changes: int) -> Storm:
        """The usual measure of everything for so many tasks."""
        share = {"kills": 10, "stalls": 10, "cli_kills": 33, "meddling": 5}
        return cls(tasks=tasks, **{**{name: tasks // one for name, one in share.items()}, **changes})


def virtual_chaos(seed: int, server: RedisServer, storm: Storm, *, edits: tuple[Edit, ...] = ()) -> History:
    """Play one storm on the server, which is left empty and as it was set."""
    config = PoolConfig(
        name=f"v{seed}",
        node="n0",
        lease_s=LEASE_MS / 1000,
        slack_s=SLACK_MS / 1000,
        housekeeping_s=0.1,
        budget_usd=None,
    )
    with ExitStack() as stack:
        stack.enter_context(edited(CLOCK, *edits))
        world = World(seed, server, config)
        stack.callback(world.close)
        stack.callback(server.flush)
        stack.callback(server.command, "CONFIG", "SET", "appendfsync", "always")  # as whoever comes next expects it
        stack.enter_context(world.own_clock())
        stack.enter_context(world.own_ids())
        began = time.monotonic()
        _Play(world, storm).play()
        world.history.duration_s = time.monotonic() - began
        return world.history


class _Play:
    def __init__(self, world: World, storm: Storm) -> None:
        self._world = world
        self._storm = storm
        journals: list[dict[str, Entry]] = [{}, {}]
        self._journals = journals
        self._slots = [VirtualSlot(world, n, f"n{n % 2}", journals[n % 2]) for n in range(storm.slots)]
        self._client = Client(world, storm.tasks)
        self._keepers = [Housekeeper(world.config, world.store, world) for _ in range(2)]
        self._turn = 0
        self._watched = 0

    def play(self) -> None:
        world = self._world
        world.faults = self._storm.losses
        world.store.pool.set_limit("pool", LIMIT_USD)
        faults = self._schedule()
        while not (self._client.done and self._turn >= self._span):
            for fault in faults.get(self._turn, ()):
                fault()
            self._step()
        world.faults = False
        world.store.pool.set_limit("pool", None)
        last = world.now_ms + self._storm.patience_ms
        while world.now_ms < last and not self._settled():
            if all(slot.idle for slot in self._slots) and not any(world.bells.values()):
                world.advance(1_000)
            for _ in range(4 * len(self._slots)):
                self._step()
        self._witness()

    @property
    def _span(self) -> int:
        """Turns in which faults come."""
        return self._storm.tasks * 12

    def _schedule(self) -> dict[int, list]:
        """Every fault at its turn, by the seed."""
        world, storm, rng = self._world, self._storm, self._world.rng

        def slot() -> VirtualSlot:
            """Three in four times one that carries a run."""
            at_work = [one for one in self._slots if one.runs]
            return rng.choice(at_work if at_work and rng.random() < 0.75 else self._slots)

        kinds = [
            (storm.kills, lambda: slot().kill()),
            (storm.stalls, lambda: slot().stall(rng.randint(LEASE_MS // 2, 4 * LEASE_MS))),
            (storm.stalls // 3, lambda: slot().stall(4 * LEASE_MS, at_claim=True)),
            (storm.cli_kills, lambda: slot().kill_run()),
            (storm.redis_kills, world.kill_redis),
            (storm.meddling, self._client.meddle),
            (storm.jumps, self._jump),
        ]
        schedule: dict[int, list] = {}
        for number, fault in kinds:
            for _ in range(number):
                schedule.setdefault(rng.randrange(self._span // 20, self._span), []).append(fault)
        return schedule

    def _jump(self) -> None:
        """The store's clock leaps ahead by an hour while nothing else does: nobody may be taken for lost."""
        self._world.fault("clock_jump")
        self._world.jumped_ms += 3_600_000
        self._world.advance(0)

    def _raise_limit(self) -> None:
        money = self._world.money()
        self._world.store.pool.set_limit("pool", (money.spent + money.reserved) / 1e6 + LIMIT_USD)

    def _step(self) -> None:
        world, rng = self._world, self._world.rng
        self._turn += 1
        if self._turn % 3 == 0:
            world.advance(rng.randint(1, 12))
        if not self._client.done and rng.random() < 0.06:
            self._client.step()
        rng.choice(self._slots).step()
        if self._turn % 25 == 0:
            self._keep(rng.choice(self._keepers))
        if self._turn % 300 == 0:
            self._operate()

    def _keep(self, keeper: Housekeeper) -> None:
        if self._world.rng.random() < 0.02:
            self._world.raw("DEL", self._world.key("leader"))  # the leader died, and its lease ran out
        keeper._try()

    def _operate(self) -> None:
        """A person looks after the pool: more money, and the account is signed in again."""
        world = self._world
        world.watch()
        try:
            if world.rng.random() < 0.5:
                world.store.pool.close_breaker()
            if world.faults:
                self._raise_limit()
                world.ring(world.store.pool.release_budget("pool"))
        except Unreachable:
            return

    def _settled(self) -> bool:
        status = self._world.store.pool.status()
        if status.pending or status.claimed or status.running or any(not slot.idle for slot in self._slots):
            return False
        waiting = self._world.store.tasks.list(TaskFilter(states=(TaskState.PARKED,), limit=10_000)).tasks
        bells = self._world.store.pool.release_budget("pool")
        self._world.ring(bells)
        if self._world.store.pool.close_breaker() or bells:
            return False
        return all(task.waits_for_somebody for task in waiting)

    def _witness(self) -> None:
        """The records at the end, by the store's own index, and what should be empty."""
        world, history = self._world, self._world.history
        world.watch()
        for run in list(world.running):
            world.end(run, None)
        history.tasks = {detail.task.id: detail for detail in self._details()}
        history.events_added = int(dict_of(world.raw("XINFO", "STREAM", world.key("events")))["entries-added"])
        history.end = world.money()
        history.left = left_in_store(world)
        history.left["journal"] = [run for journal in self._journals for run in journal]

    def _details(self) -> Iterator[TaskDetail]:
        for task_id in self._world.raw("ZRANGE", self._world.key("index"), "0", "-1"):
            yield self._world.store.tasks.detail(task_id)


def dict_of(pairs: object) -> dict[str, object]:
    """What some commands answer, as a mapping."""
    if isinstance(pairs, dict):
        return pairs
    assert isinstance(pairs, list)
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def left_in_store(world: World) -> dict[str, list[str]]:
    """Indexes that are empty when nothing is under way."""
    left = {name: world.raw("ZRANGE", world.key(name), "0", "-1") for name in ("leases", "due", "bells")}
    left["busy"] = list(world.raw("SMEMBERS", world.key("busy")))
    for state in ("pending", "claimed", "running"):
        left[f"state:{state}"] = world.raw("ZRANGE", world.key("state", state), "0", "-1")
    parked = set(world.raw("ZRANGE", world.key("state", "parked"), "0", "-1"))
    waiting = {one for key in world.raw("KEYS", world.key("waits", "*")) for one in world.raw("ZRANGE", key, "0", "-1")}
    left["waits"] = sorted(waiting - parked)
    return left
