"""A counter without any server behind it: fake store, doorbells in a list, a slot that is moved by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from claude_pool.config import PoolConfig
from claude_pool.errors import Unreachable
from claude_pool.models.task import Submitter
from claude_pool.pool import Pool
from claude_pool.store import Store, fake_store
from claude_pool.store.base import Doorbell
from claude_pool.testing.hands import Hand


class Bells:
    """The broker's double: a list, until it is told to be away."""

    def __init__(self) -> None:
        self.rung: list[Doorbell] = []
        self.calls = 0
        self.away = False

    def ring(self, bells: Sequence[Doorbell]) -> None:
        self.calls += 1
        if self.away:
            raise Unreachable
        self.rung += bells

    def waiting(self, queue: str) -> int:
        return sum(bell.queue == queue for bell in self.rung)

    def close(self) -> None: ...


@pytest.fixture
def config(tmp_path: Path) -> PoolConfig:
    return PoolConfig(name="p", home=tmp_path, node="n1", model="haiku", task_budget_usd=2.0, lease_s=1)


@pytest.fixture
def store(config: PoolConfig) -> Iterator[Store]:
    store = fake_store(config)
    store.pool.prepare(epoch=None)
    yield store
    store.close()


@pytest.fixture
def bells() -> Bells:
    return Bells()


@pytest.fixture
def pool(config: PoolConfig, store: Store, bells: Bells) -> Iterator[Pool]:
    pool = Pool(config, store, bells, submitter=Submitter(name="ada", kind="python"))
    yield pool
    pool.hub.close()


@pytest.fixture
def hand(store: Store) -> Hand:
    return Hand(store)
