"""Pool: the one counter. CLI, MCP tools and user code stand here; what it can't do can't be done.

    with Pool.open() as pool:
        result = pool.run("Summarise README.md in one sentence.")
        print(result.output, result.cost_usd)

Opening connects to the pool's Redis, and without a URL starts the private one; nothing else is started. All methods are
synchronous and may be called from any thread. They raise the errors of `claude_pool.errors`; Unreachable whenever the
store does not answer.
"""

from __future__ import annotations

import getpass
import os
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from claude_pool.broker import BackgroundBroker, Broker, CeleryBroker, LateBroker, make_app
from claude_pool.config import PoolConfig, load
from claude_pool.desks.context import ContextDesk
from claude_pool.desks.fleet import FleetDesk
from claude_pool.desks.reviews import ReviewDesk
from claude_pool.desks.routing import RoutingDesk
from claude_pool.desks.skills import SkillDesk
from claude_pool.embedded import connection
from claude_pool.models.task import Submitter
from claude_pool.store import open_store
from claude_pool.store.base import Store


def default_submitter() -> Submitter:
    """Who this process is, for the records: the user's name, from Python."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return Submitter(name=name, kind="python")


class Pool(RoutingDesk, ReviewDesk, SkillDesk, FleetDesk, ContextDesk):
    """A pool of slots that run the Claude CLI. Make one with `Pool.open`, and close it."""

    def __init__(self, config: PoolConfig, store: Store, broker: Broker, *, submitter: Submitter | None = None) -> None:
        super().__init__(config, store, broker, submitter=submitter or default_submitter())
        self._exit = ExitStack()

    @classmethod
    def open(
        cls,
        config: PoolConfig | None = None,
        *,
        submitter: Submitter | None = None,
        ring_later: bool = False,
        **settings: Any,
    ) -> Self:
        """Connect to a pool. Loose settings are those of PoolConfig, over variables and file.

        With `ring_later`, handing in returns once the task is stored, and slots are told in the background.

        Raises InvalidSettings, Unreachable, StoreReset, Refused.
        """
        config = load(**settings)[0] if config is None else config
        with ExitStack() as stack:
            url = stack.enter_context(connection(config))
            store = open_store(url, config)
            stack.callback(store.close)
            store.pool.prepare(epoch=None)
            if config.budget_usd is not None:
                store.pool.set_limit("pool", config.budget_usd)
            broker: Broker = LateBroker(lambda: CeleryBroker(make_app(config.name, url)))
            if ring_later:
                broker = BackgroundBroker(broker)
            stack.callback(broker.close)
            pool = cls(config, store, broker, submitter=submitter)
            stack.callback(pool.hub.close)
            pool._exit = stack.pop_all()
        return pool

    def close(self) -> None:
        """Give everything back. The pool's tasks go on without us. Harmless twice."""
        self._exit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
