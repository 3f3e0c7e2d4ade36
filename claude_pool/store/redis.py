"""The store over Redis, put together: one client, a facet for each protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from claude_pool.config import PoolConfig
from claude_pool.store.base import Store
from claude_pool.store.client import Client, connect, fake_client
from claude_pool.store.context import RedisContext
from claude_pool.store.graph import RedisGraphs
from claude_pool.store.house import RedisHouse
from claude_pool.store.parcels import RedisParcels
from claude_pool.store.pool import RedisPool
from claude_pool.store.reviews import RedisReviews
from claude_pool.store.slots import RedisSlots
from claude_pool.store.streams import RedisEvents, RedisLogs
from claude_pool.store.tasks import RedisTasks


@dataclass(frozen=True)
class RedisStore(Store):
    """A `Store` that owns its connections."""

    client: Client = field(kw_only=True)

    def close(self) -> None:
        self.client.close()


def store_over(client: Client, config: PoolConfig) -> RedisStore:
    """A store over this client."""
    return RedisStore(
        tasks=RedisTasks(client, config),
        house=RedisHouse(client),
        slots=RedisSlots(client),
        events=RedisEvents(client),
        logs=RedisLogs(client, config),
        pool=RedisPool(client, config),
        reviews=RedisReviews(client),
        graph=RedisGraphs(client),
        parcels=RedisParcels(client, config),
        context=RedisContext(client),
        client=client,
    )


def open_store(url: str, config: PoolConfig) -> RedisStore:
    """The pool's store on the server at `url`; nothing is sent before the first call. Raises InvalidSettings."""
    return store_over(connect(url, pool=config.name), config)


def fake_store(config: PoolConfig, *, server: Any = None) -> RedisStore:
    """The same over a server in this process: `server` (from `client.new_fake_server`), else one of its own."""
    return store_over(fake_client(pool=config.name, server=server), config)
