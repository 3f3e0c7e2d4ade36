"""Stores to test: `store` over a server in this process and over a real one, `real_store` over the real one only.

The real server is the session's (`redis_server`); each test has a pool of its own on it, and leaves it empty.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import pytest

from claude_pool.config import PoolConfig
from claude_pool.store.redis import RedisStore, fake_store, open_store
from claude_pool.testing.hands import Hand
from claude_pool.testing.redis_server import RedisServer


@dataclass
class StoreBench:
    """A store, and its server if that is a real one."""

    store: RedisStore
    config: PoolConfig
    server: RedisServer | None = None
    _others: list[RedisStore] = field(default_factory=list)

    @property
    def raw(self) -> Any:
        """The library's client, for what no caller may do."""
        return self.store.client._quick

    def key(self, *parts: str) -> str:
        return ":".join((self.config.name, *parts))

    def another(self, **changes: Any) -> RedisStore:
        """The same pool, seen by another process or with other settings."""
        assert self.server is not None
        store = open_store(self.server.url, self.config.model_copy(update=changes))
        self._others.append(store)
        return store

    def full(self) -> AbstractContextManager[None] | None:
        return None if self.server is None else _full(self.server)

    def close(self) -> None:
        for store in (self.store, *self._others):
            store.close()


@contextlib.contextmanager
def _full(server: RedisServer) -> Iterator[None]:
    server.command("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:
        server.command("CONFIG", "SET", "maxmemory", "0")


@pytest.fixture
def make_bench(pool_name: str) -> Iterator[Callable[..., StoreBench]]:
    benches: list[StoreBench] = []

    def make(server: RedisServer | None = None, **settings: Any) -> StoreBench:
        config = PoolConfig(name=pool_name, **settings)
        store = fake_store(config) if server is None else open_store(server.url, config)
        benches.append(StoreBench(store, config, server))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()
        if bench.server is not None:
            bench.server.flush()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.redis)])
def bench(request: pytest.FixtureRequest, make_bench: Callable[..., StoreBench]) -> StoreBench:
    return make_bench(request.getfixturevalue("redis_server") if request.param == "real" else None)


@pytest.fixture
def store(bench: StoreBench) -> RedisStore:
    return bench.store


@pytest.fixture
def hand(store: RedisStore) -> Hand:
    return Hand(store)


@pytest.fixture
def real_bench(redis_server: RedisServer, make_bench: Callable[..., StoreBench]) -> StoreBench:
    return make_bench(redis_server)


@pytest.fixture
def real_store(real_bench: StoreBench) -> RedisStore:
    return real_bench.store
