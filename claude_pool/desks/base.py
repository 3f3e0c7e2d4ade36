"""What every desk of the counter stands on."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from claude_pool.broker import Broker
from claude_pool.config import PoolConfig
from claude_pool.errors import InvalidRequest, Unreachable
from claude_pool.hub import Hub
from claude_pool.models.base import explain
from claude_pool.models.options import TaskOptions
from claude_pool.models.task import Submitter
from claude_pool.store.base import Doorbell, Store

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Desk:
    """The store, the bell and the ears of one pool."""

    def __init__(self, config: PoolConfig, store: Store, broker: Broker, *, submitter: Submitter) -> None:
        self.config = config
        self.store = store
        self.submitter = submitter
        self.hub = Hub(store.events)
        self._broker = broker

    def on_behalf_of(self, submitter: Submitter) -> Self:
        """The same counter for what somebody else hands in; what it stands on stays this one's to close."""
        if submitter == self.submitter:
            return self
        theirs = copy.copy(self)
        theirs.submitter = submitter
        return theirs

    def _ring(self, bells: Sequence[Doorbell]) -> None:
        """Ring for tasks that are stored already: when nobody hears it, the housekeeper rings again."""
        if not bells:
            return
        try:
            self._broker.ring(bells)
        except Unreachable as error:
            _log.warning("stored, but the doorbell did not ring: %s", error)

    @staticmethod
    def _patiently(call: Callable[[], T], patience_s: float) -> T:
        """The answer, once the store gives one; Unreachable when it gives none for that long."""
        deadline = time.monotonic() + patience_s
        pause_s = 0.05
        while True:
            try:
                return call()
            except Unreachable:
                if time.monotonic() + pause_s > deadline:
                    raise
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 1.0)

    def _options(self, options: TaskOptions | None, fields: dict[str, Any]) -> TaskOptions:
        """One set of options from a record and loose fields, with this pool's defaults in the gaps."""
        settings = self.config
        chosen = {} if options is None else {name: getattr(options, name) for name in options.model_fields_set}
        chosen |= fields
        # where nodes may be other machines, each has the pool's repository at a path of its own
        elsewhere = not settings.embedded and (settings.repo or settings.repo_url) is not None
        defaults = {
            "model": settings.model,
            "permission_mode": settings.permission_mode,
            "max_turns": settings.max_turns,
            "max_budget_usd": settings.task_budget_usd,
            "isolation": settings.isolation or ("worktree" if elsewhere and not chosen.get("working_dir") else None),
            "repo": None if settings.repo is None or elsewhere else str(settings.repo),
            "base_ref": settings.target,
        }
        chosen |= {name: value for name, value in defaults.items() if value is not None and chosen.get(name) is None}
        try:
            return TaskOptions(**chosen)
        except ValidationError as error:
            raise InvalidRequest(explain(error)) from None
