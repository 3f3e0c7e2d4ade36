"""Housekeeper: brings back what was lost, wakes what is due, forgets what is old. One in the whole pool holds a lease.

Any node can be it; each runs one process that tries. All it does is idempotent scripts in bounded batches, so two of
them for a moment (a paused leader) do no harm. It never reaps on doubt: after the store was away, or when the store's
clock and this host's clock disagree about how much time has passed, it waits one lease long, in which every living slot
has told of itself.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from claude_pool.broker import Broker
from claude_pool.config import PoolConfig
from claude_pool.errors import PoolError
from claude_pool.ids import new_run_id
from claude_pool.keys import QUEUE
from claude_pool.store.base import Doorbell, Store
from workers.guarded import boottime_s

_log = logging.getLogger(__name__)

_JUMP_MS: Final = 5_000
"""The store's clock and ours may disagree by this much before nothing is reaped."""
_SWEEP_EVERY_S: Final = 60.0
_DAY_MS: Final = 86_400_000
_BATCHES: Final = 20
"""Batches of one kind per round; what is left comes in the next one."""
_MOST_AGAIN: Final = 500


class ClockBrake:
    """Says whether the store's clock can be trusted for reaping."""

    def __init__(self, lease_ms: int) -> None:
        self._lease_ms = lease_ms
        self._last: tuple[int, int] | None = None
        self._until_ms = 0

    def hold(self, now_ms: int) -> None:
        """Reap nothing for one lease from now (this host's clock)."""
        self._until_ms = now_ms + self._lease_ms

    def may_reap(self, store_ms: int, own_ms: int) -> bool:
        """Whether to reap now, given the store's clock and this host's uptime."""
        if self._last is None:
            self.hold(own_ms)
        elif (jump := (store_ms - self._last[0]) - (own_ms - self._last[1])) and abs(jump) > _JUMP_MS:
            _log.warning("the store's clock jumped by %.1f s: nothing counts as lost for one lease", jump / 1000)
            self.hold(own_ms)
        self._last = (store_ms, own_ms)
        return own_ms >= self._until_ms


class Housekeeper:
    """Rounds of housekeeping. `keep_house` blocks until `stop`."""

    def __init__(
        self,
        config: PoolConfig,
        store: Store,
        broker: Broker,
        *,
        lifeline: int | None = None,
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        """`tidy` is called in every round of every node, also of those that do not lead."""
        self._tidy = tidy
        self._config = config
        self._house = store.house
        self._graph = store.graph
        self._pool = store.pool
        self._broker = broker
        self._holder = new_run_id()
        self._brake = ClockBrake(config.lease_ms)
        self._stop = threading.Event()
        self._lifeline = lifeline
        self._next_sweep = 0.0

    def stop(self) -> None:
        """Leave after the current round."""
        self._stop.set()

    def keep_house(self) -> None:
        """Round after round, with a pause between them; over when the lifeline's other end is closed."""
        while not self._stop.is_set():
            self._try()
            self._tidy()
            self._rest()

    def _try(self) -> None:
        try:
            if self._house.lead(self._holder, ttl_ms=self._lead_ms()):
                self.round()
        except PoolError as error:
            _log.warning("no housekeeping: %s", error)
            self._brake.hold(_own_ms())

    def _rest(self) -> None:
        if self._lifeline is None:
            self._stop.wait(self._config.housekeeping_s)
        elif select.select([self._lifeline], [], [], self._config.housekeeping_s)[0]:
            self.stop()

    def _lead_ms(self) -> int:
        return max(3_000, round(self._config.housekeeping_s * 5_000))

    def round(self) -> None:
        """Everything that is due now. Raises PoolError when the store or the broker does not answer."""
        if self._brake.may_reap(self._house.now_ms(), _own_ms()):
            self._reap()
        self._in_batches("due", self._house.due)
        self._tend()
        self._ring_again()
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEEP_EVERY_S
            self._remind()
            self._forget()

    def _ring_again(self) -> None:
        """For pending tasks whose doorbell may be lost: as many as there are more tasks than doorbells.

        A long queue makes doorbells old without any being lost, and a second one for each would only have to be heard
        in vain. Those that are lost behind a long queue ring when it is over: then every pending task rings.
        """
        queued = self._broker.waiting(QUEUE)
        if queued == 0:
            self._in_batches("unrung", lambda: self._house.unrung(queue_empty=True))
        elif (missing := self._pool.status().pending - queued) > 0:
            self._broker.ring(self._house.unrung(limit=min(missing, _MOST_AGAIN)))

    def _reap(self) -> None:
        for _ in range(_BATCHES):
            lost = self._house.reap(slack_ms=self._config.slack_ms)
            for one in lost:
                _log.warning("run %s of %s was lost: now %s", one.run_id, one.task_id, one.state)
            self._broker.ring([one.bell for one in lost if one.bell])
            if not lost:
                return

    def _tend(self) -> None:
        """Chains and fan-outs over their time are stopped; wide ones that are being stopped get on with it."""
        for _ in range(_BATCHES):
            tended = self._graph.tend()
            if tended.bells:
                self._broker.ring(tended.bells)
            if not tended.ids:
                return
            _log.info("ended, or being ended: %s", ", ".join(tended.ids))

    def _in_batches(self, what: str, find: Callable[[], Sequence[Doorbell]]) -> None:
        for _ in range(_BATCHES):
            bells = find()
            if not bells:
                return
            _log.info("%s: ringing for %d tasks", what, len(bells))
            self._broker.ring(bells)

    def _remind(self) -> None:
        if (pause_s := self._config.review_remind_s) is not None:
            for task_id in self._house.remind(pause_ms=round(pause_s * 1000)):
                _log.info("%s waits for its review", task_id)

    def _forget(self) -> None:
        for _ in range(_BATCHES):
            if not self._house.forget(older_than_ms=self._house.now_ms() - round(self._config.keep_days * _DAY_MS)):
                return


def _own_ms() -> int:
    """This host's time since boot, suspends included."""
    return round(boottime_s() * 1000)
