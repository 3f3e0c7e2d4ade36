"""Tidy: each node clears away, now and then, the branches in its repositories whose time is over.

What is merged, rejected or older than `branch_days` goes, with a note in the task's record; unfinished work and the
branches of other pools stay. What fails is logged and tried again the next time.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from claude_pool.broker import Broker
from claude_pool.config import PoolConfig
from claude_pool.desks.branches import BranchDesk
from claude_pool.errors import PoolError
from claude_pool.models.task import Submitter
from claude_pool.store.base import Store
from claude_pool.workspace.ground import known

_log = logging.getLogger(__name__)

FIRST_S: Final = 300.0
"""A node that has just started has better things to do."""
EVERY_S: Final = 3_600.0


class Tidy:
    """Call it often; it clears up when it is time."""

    def __init__(self, config: PoolConfig, store: Store, broker: Broker, *, first_s: float = FIRST_S) -> None:
        self._repos = config.pool_dir / "repos"
        self._desk = BranchDesk(config, store, broker, submitter=Submitter(name=config.node, kind="pool"))
        self._next = time.monotonic() + first_s

    def __call__(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_S
        for repo in known(self._repos):
            try:
                report = self._desk.gc(repo=repo)
            except (PoolError, OSError) as error:
                _log.warning("%s is not cleared up: %s", repo, error)
                continue
            for gone in (*report.branches, *report.worktrees):
                _log.info("cleared away in %s: %s", repo, gone)
