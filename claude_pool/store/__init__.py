"""Where every fact of a pool lives.

The protocols are in `base`; `open_store` gives the one over Redis, `fake_store` the same over a server in this process.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from claude_pool.config import PoolConfig
from claude_pool.store.base import Store

__all__ = ["Store", "fake_store", "open_store"]

_HOME: Final = "claude_pool.store.redis"
"""Imported when it is first used: programs without a store need not spend 0.1 s on Redis' library."""


def open_store(url: str, config: PoolConfig) -> Store:
    """The pool's store on the server at `url`; nothing is sent before the first call. Raises InvalidSettings."""
    return importlib.import_module(_HOME).open_store(url, config)


def fake_store(config: PoolConfig, *, server: Any = None) -> Store:
    """The same over a server in this process: `server`, else one of its own."""
    return importlib.import_module(_HOME).fake_store(config, server=server)
