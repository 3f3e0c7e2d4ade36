"""Tools: what a slot works with, made once per process and handed down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from claude_pool.binary import ClaudeBinary
from claude_pool.broker import Broker
from claude_pool.config import PoolConfig
from claude_pool.models.pool import SlotIdentity
from claude_pool.store import Store
from claude_pool.workspace import Workspaces
from workers.guarded import Guard
from workers.heartbeat import Heart
from workers.journal import Journal
from workers.places import Place
from workers.warm import Warm


@dataclass(frozen=True)
class Tools:
    """What a slot works with; made once per process."""

    config: PoolConfig
    store: Store
    broker: Broker
    identity: SlotIdentity
    place: Place
    guard: Guard
    heart: Heart
    journal: Journal
    workspaces: Workspaces
    binary: Callable[[], ClaudeBinary]
    node_env: Mapping[str, str]
    warm: Warm
