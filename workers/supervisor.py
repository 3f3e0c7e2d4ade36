"""Supervisor: one process per node that keeps its slots alive, as many as the pool wants, and leaves nothing behind.

Duties: register the node, fork the housekeeper and the slots from this preloaded process (a third of the memory of
separate ones), replace those that die, scale and drain as ordered, and see everybody out. One thread and no locks: it
waits for orders of the pool with a short limit, then looks after its children. SIGTERM and SIGINT drain; a second one
checkpoints what runs and leaves.

When the store is away the slots go on with what they run, and so does the node; when another process took over the
node's name, everything is checkpointed and this one leaves.
"""

from __future__ import annotations

import gc
import logging
import mmap
import os
import signal
import time
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Final, NoReturn

from claude_pool.broker import CeleryBroker, make_app
from claude_pool.config import PoolConfig
from claude_pool.errors import PoolError
from claude_pool.models.pool import NodeIdentity, NodeMode, NodeOrders, SlotState, slot_id
from claude_pool.store import Store, open_store
from workers import signals
from workers.housekeeper import Housekeeper
from workers.journal import Journal
from workers.memory import Memory
from workers.retention import EVERY_S, clear_old
from workers.slot_process import Birth, Ground, live
from workers.staff import Staff
from workers.sweep import sweep
from workers.tidy import Tidy

_log = logging.getLogger(__name__)

_LOOK_MS: Final = 100
_LAST_WAIT_S: Final = 10.0


class Phase(StrEnum):
    """What the node is up to."""

    RUN = "run"
    DRAIN = "drain"
    CHECKPOINT = "checkpoint"


class Supervisor:
    """The node. `supervise` blocks until every slot has left."""

    def __init__(
        self, ground: Ground, identity: NodeIdentity, *, may_leave: Callable[[], bool], revive: Callable[[], None],
        own_fds: Collection[int] = (),
    ) -> None:  # fmt: skip
        """`revive` brings the private server back; `own_fds`, locks that say that we live, are closed in children."""
        self._revive = revive
        self._config = ground.config
        self._identity = identity
        self._memory = Memory(ground.config)
        self._store: Store = open_store(ground.redis_url, ground.config)
        self._store.pool.prepare(epoch=ground.epoch)
        self._children = Children(ground, self._store, own_fds)
        self._staff = Staff(self._children, now=time.monotonic)
        self._may_leave = may_leave
        self._phase = Phase.RUN
        self._deadline = 0.0
        self._signals = 0
        self._seen = ""
        self._next_beat = 0.0
        self._next_clearing = 0.0

    def supervise(self) -> None:
        """Run the node. Raises SlotTaken, Refused, Unreachable when it can't even begin."""
        orders = self._store.slots.register_node(self._identity, lease_ms=self._config.lease_ms)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_leave)
        gc.collect()
        gc.freeze()
        try:
            self._obey(orders)
            while self._phase is Phase.RUN or self._staff.alive:
                self._round()
        finally:
            self._end()

    def _asked_to_leave(self, *_: object) -> None:
        self._signals += 1

    def _round(self) -> None:
        self._mind_signals()
        if self._phase is not Phase.RUN and time.monotonic() > self._deadline:
            self._phase = Phase.CHECKPOINT
        if self._phase is Phase.CHECKPOINT:
            self._staff.checkpoint_all()
        elif self._phase is Phase.DRAIN:
            self._staff.dismiss_all()
        self._staff.look()
        self._children.keep_housekeeper(wanted=self._phase is Phase.RUN)
        self._listen()
        if time.monotonic() >= self._next_beat:
            self._beat()
        if time.monotonic() >= self._next_clearing:
            self._next_clearing = time.monotonic() + EVERY_S
            clear_old(self._config)

    def _mind_signals(self) -> None:
        if self._signals and self._phase is Phase.RUN:
            self._drain(self._config.drain_s)
        if self._signals > 1:
            self._phase = Phase.CHECKPOINT

    def _listen(self) -> None:
        """Wait until the pool rings the node, or for the next look."""
        before = self._seen
        try:
            self._seen = self._store.slots.await_orders(self._config.node, seen=before, block_ms=_LOOK_MS)
        except PoolError:
            self._try_to_revive()
            time.sleep(_LOOK_MS / 1000)
        if self._seen != before:
            self._next_beat = 0.0

    def _beat(self) -> None:
        """Tell the pool that the node is there, and take its orders."""
        self._next_beat = time.monotonic() + self._config.beat_s
        errored = {slot_id(number, self._config.node): why for number, why in self._staff.errored.items()}
        try:
            orders = self._store.slots.beat_node(self._identity, lease_ms=self._config.lease_ms, errored=errored)
            if orders is None:
                _log.error("another process runs node %s now: leaving", self._config.node)
                self._phase = Phase.CHECKPOINT
            else:
                self._memory.keep(orders.store_seen)
                self._obey(orders)
        except PoolError as error:
            _log.warning("the node can't be heard: %s", error)

    def _try_to_revive(self) -> None:
        try:
            self._revive()
        except PoolError as error:
            _log.warning("%s", error)

    def _obey(self, orders: NodeOrders) -> None:
        if self._phase is not Phase.RUN and orders.mode is not NodeMode.STOP:
            return
        if orders.mode is NodeMode.STOP:
            _log.info("stopping: what runs is checkpointed and goes on when slots are there again")
            self._phase = Phase.CHECKPOINT
        elif orders.mode is NodeMode.DRAIN:
            until_ms = orders.deadline_ms
            left_s = self._config.drain_s if until_ms is None else (until_ms - self._store.house.now_ms()) / 1000
            self._drain(left_s)
        elif self._may_leave():
            _log.info("nothing to do and nobody there: leaving")
            self._drain(self._config.drain_s)
        else:
            self._staff.want(orders.slots, busy=self._busy)

    def _drain(self, within_s: float) -> None:
        self._phase = Phase.DRAIN
        self._deadline = time.monotonic() + within_s
        _log.info("draining: running tasks have %.0f s to finish", within_s)

    def _busy(self) -> Collection[int]:
        node = self._config.node
        return [slot.number for slot in self._store.slots.slots() if slot.node == node and slot.state is SlotState.BUSY]

    def _end(self) -> None:
        """See everybody out; only what does not leave by itself is killed, and its guard stops what it runs."""
        deadline = time.monotonic() + _LAST_WAIT_S
        self._staff.checkpoint_all()
        while self._staff.alive and time.monotonic() < deadline:
            self._staff.look()
            time.sleep(0.05)
        self._staff.kill_all()
        self._children.end()
        try:
            self._store.slots.leave_node(self._identity)
        except PoolError as error:
            _log.info("left without saying so: %s", error)
        self._store.close()
        _log.info("node %s has left", self._config.node)


def bury(config: PoolConfig, store: Store, slot: str, pid: int) -> None:
    """A slot's process is dead: kill what is left of its run, deliver the result it may have had, declare it lost.

    When the store does not answer, nothing is declared, and the lease runs out in its own time.
    """
    if killed := sweep(config.name, config.node):
        _log.warning("%s: killed %d processes that it left", slot, len(killed))
    try:
        Journal(config.node_dir / "journal").deliver(store.tasks.finish)
        store.slots.bury(slot, pid)
    except PoolError as error:
        _log.warning("%s: its lease has to run out: %s", slot, error)


class Children:
    """The processes of the node: slots and the housekeeper, forked from this one."""

    def __init__(self, ground: Ground, store: Store, own_fds: Collection[int]) -> None:
        self._ground = ground
        self._config = ground.config
        self._store = store
        self._own_fds = own_fds
        self._lifeline, self._held = os.pipe()
        self._begun = mmap.mmap(-1, mmap.PAGESIZE)  # shared with the slots: one byte each
        self._housekeeper: int | None = None

    def fork_slot(self, number: int) -> int:
        """A new slot; see `Processes`."""
        birth = Birth(self._ground, number, self._lifeline, begun=lambda: self._mark(number, 1))
        self._mark(number, 0)
        return self._fork(lambda: live(birth))

    def _mark(self, number: int, begun: int) -> None:
        self._begun[number % mmap.PAGESIZE] = begun

    def began(self, number: int) -> bool:
        """See `Processes`."""
        return self._begun[number % mmap.PAGESIZE] == 1

    def signal(self, pid: int, number: int) -> None:
        """See `Processes`."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            _log.debug("process %d is gone already", pid)

    def buried(self) -> list[tuple[int, int]]:
        """See `Processes`; orphans that came to us as subreaper are buried silently."""
        dead: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return dead
            if pid == 0:
                return dead
            if pid == self._housekeeper:
                self._housekeeper = None
            dead.append((pid, os.waitstatus_to_exitcode(status)))

    def mourn(self, number: int, pid: int) -> None:
        """See `Processes`. What it had in hand goes on elsewhere at once, and not only when its lease has run out."""
        bury(self._config, self._store, slot_id(number, self._config.node), pid)

    def keep_housekeeper(self, *, wanted: bool) -> None:
        """Have one, or none."""
        if wanted and self._housekeeper is None:
            self._housekeeper = self._fork(self._keep_house)
        elif not wanted and self._housekeeper is not None:
            self.signal(self._housekeeper, signal.SIGTERM)

    def end(self) -> None:
        """Nobody is left."""
        if self._housekeeper is not None:
            self.signal(self._housekeeper, signal.SIGKILL)
        self.buried()
        os.close(self._held)
        os.close(self._lifeline)

    def _keep_house(self) -> int:
        store = open_store(self._ground.redis_url, self._config)
        store.pool.prepare(epoch=self._ground.epoch)
        broker = CeleryBroker(make_app(self._config.name, self._ground.redis_url))
        keeper = Housekeeper(self._config, store, broker, lifeline=self._lifeline,
                             tidy=Tidy(self._config, store, broker))  # fmt: skip

        signals.answer({signals.LEAVE: keeper.stop})
        keeper.keep_house()
        return 0

    def _fork(self, body: Callable[[], int]) -> int:
        signals.hold()
        pid = os.fork()
        if pid == 0:
            self._be(body)
        signals.release()
        return pid

    def _be(self, body: Callable[[], int]) -> NoReturn:
        """The child: never returns into the supervisor's stack."""
        status = 1
        try:
            for fd in (self._held, *self._own_fds):
                os.close(fd)
            status = body()
        except BaseException:  # noqa: BLE001 - the boundary of a process
            _log.exception("a child of the supervisor broke")
        finally:
            logging.shutdown()
            os._exit(status)
