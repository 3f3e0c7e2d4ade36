"""A slot's tools without any process: fake store, doorbells in a list, a guard that only listens, a run that is told.

`bench.facts` is what the next run will have observed, `bench.runs` what was to be run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from claude_pool.binary import ClaudeBinary
from claude_pool.config import PoolConfig
from claude_pool.errors import Unreachable
from claude_pool.models.run import RunFacts
from claude_pool.models.task import Task
from claude_pool.store import fake_store
from claude_pool.store.base import Claim, Doorbell, Store
from claude_pool.testing.hands import Hand
from claude_pool.workspace import Workspaces
from workers.command import Launch
from workers.heartbeat import Heart
from workers.journal import Journal
from workers.places import Place
from workers.tools import Tools
from workers.warm import Warm

ANSWERED = RunFacts(
    saw_init=True, saw_output=True, has_result=True, subtype="success", terminal_reason="completed", result_count=1,
    output="Hello.", cost_usd=0.02, session_cost_usd=0.02, cost_known=True,
)  # fmt: skip


@dataclass
class Bells:
    """The broker's double: a list, until it is told to be away."""

    rung: list[Doorbell] = field(default_factory=list)
    away: bool = False

    def ring(self, bells: Sequence[Doorbell]) -> None:
        if self.away:
            raise Unreachable
        self.rung += bells

    def waiting(self, queue: str) -> int:
        return sum(bell.queue == queue for bell in self.rung)

    def close(self) -> None: ...


@dataclass
class Pulse:
    """The guard's double: hears until when runs may live."""

    deadlines: list[float | None] = field(default_factory=list)

    def renew(self, deadline: float | None) -> None:
        self.deadlines.append(deadline)


@dataclass
class Run:
    """One run that was to be carried out."""

    launch: Launch
    prompt: str
    how: dict[str, Any]


@dataclass
class Bench:
    """One slot, and what happens around it."""

    tools: Tools
    hand: Hand
    bells: Bells
    pulse: Pulse
    facts: RunFacts = ANSWERED
    runs: list[Run] = field(default_factory=list)
    meanwhile: Callable[[Run], None] = lambda _run: None

    @property
    def store(self) -> Store:
        return self.tools.store

    def submit(self, prompt: str = "Say hello.", **options: Any) -> str:
        return self.hand.submit(prompt, **options)

    def task(self, task_id: str) -> Task:
        return self.store.tasks.get(task_id)

    def claim(self, prompt: str = "Say hello.", **options: Any) -> Claim:
        return self.hand.claim(self.submit(prompt, **options))

    def run(self, launch: Launch, prompt: str, **how: Any) -> RunFacts:
        """Stands for `workers.runner.run`."""
        self.runs.append(Run(launch, prompt, how))
        self.meanwhile(self.runs[-1])
        return self.facts


@pytest.fixture
def settings(tmp_path: Path) -> PoolConfig:
    return PoolConfig(name="p", home=tmp_path / "home", node="n1", claude=tmp_path / "claude", warm="off")


@pytest.fixture
def bench(settings: PoolConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    store = fake_store(settings)
    store.pool.prepare(epoch=None)
    hand = Hand(store)
    bells, pulse, place = Bells(), Pulse(), Place.of(settings, 0)
    for path in (*place.own, *place.shared):
        path.mkdir(parents=True, exist_ok=True)
    heart = Heart(store.slots, hand.identity, pulse, lease_s=60, beat_s=10, on_leave=lambda: None, on_lost=print)
    found = ClaudeBinary(path=tmp_path / "claude", version="2.1.330", origin="setting")
    tools = Tools(
        config=settings, store=store, broker=bells, identity=hand.identity, place=place, guard=cast("Any", pulse),
        heart=heart, journal=Journal(settings.node_dir / "journal"), binary=lambda: found, node_env={"PATH": "/bin"},
        warm=Warm(cast("Any", pulse), settings, lend=lambda: tmp_path),
        workspaces=Workspaces(settings, slot_dir=place.root, pool="p", slot_id=hand.identity.slot_id),
    )  # fmt: skip
    made = Bench(tools, hand, bells, pulse)
    monkeypatch.setattr("workers.running.run", made.run)
    yield made
    store.close()
