"""A slot's process: what a freshly forked child of the supervisor becomes.

It leaves the supervisor's session, opens its own connections, registers under its name, starts its guard, and listens
for doorbells until it is told to leave, or to checkpoint (`workers.signals`), finds its
supervisor gone, or another incarnation has taken its name. The exit status tells the supervisor which it was.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Final

from claude_pool.binary import ClaudeBinary, find_claude
from claude_pool.broker import CeleryBroker, make_app
from claude_pool.config import PoolConfig
from claude_pool.errors import PoolError, SlotTaken
from claude_pool.ids import new_run_id
from claude_pool.keys import QUEUE, queue_of_node, queue_of_slot
from claude_pool.models.pool import SlotIdentity, slot_id
from claude_pool.store import Store, open_store
from claude_pool.store.base import Doorbell
from claude_pool.workspace import Workspaces
from workers import signals
from workers.app import Ear
from workers.furnish import furnish
from workers.guarded import Guard
from workers.heartbeat import Heart
from workers.journal import Journal
from workers.places import Place
from workers.signals import CHECKPOINT, LEAVE
from workers.slot import Slot
from workers.sweep import clear_leftovers
from workers.tools import Tools
from workers.warm import Warm

_log = logging.getLogger(__name__)

_CANARY_EVERY_S: Final = 30.0


class SlotExit(IntEnum):
    """How a slot's process ended, for its supervisor."""

    LEFT = 0
    TAKEN = 70
    """The name belongs to another incarnation."""
    DEAF = 75
    """The Celery consumer stopped hearing doorbells."""
    BROKEN = 76
    """Something else; the log says what."""


@dataclass(frozen=True)
class Ground:
    """What every process of a node stands on."""

    config: PoolConfig
    redis_url: str
    epoch: str
    """The store's, as the node knows it: in a store that was reset nothing is claimed."""
    env: Mapping[str, str]
    """The node's own environment."""


@dataclass(frozen=True)
class Birth:
    """What the supervisor gives a new slot."""

    ground: Ground
    number: int
    lifeline: int
    """The reading end of a pipe; end of file means that the supervisor is gone."""
    begun: Callable[[], None] = lambda: None
    """Called once the slot hears doorbells."""

    def identity(self) -> SlotIdentity:
        """A new incarnation of the slot."""
        node = self.ground.config.node
        return SlotIdentity(slot_id=slot_id(self.number, node), node=node, number=self.number,
                            incarnation=new_run_id(), pid=os.getpid())  # fmt: skip


def live(birth: Birth) -> int:
    """Be a slot until it is over; the exit status. Raises nothing."""
    os.setsid()
    told = _Told()
    signals.answer({LEAVE: told.leave, CHECKPOINT: told.checkpoint})
    try:
        with ExitStack() as stack:
            return _Seat(birth, told, stack).serve()
    except SlotTaken as error:
        _log.warning("slot %d: %s", birth.number, error)
        return SlotExit.TAKEN
    except PoolError as error:
        _log.error("slot %d: %s", birth.number, error)
        return SlotExit.BROKEN
    except Exception:  # noqa: BLE001 - the boundary of the process
        _log.exception("slot %d broke", birth.number)
        return SlotExit.BROKEN


class _Told:
    """What the supervisor has said so far; it may speak before the slot can listen."""

    def __init__(self) -> None:
        self.leaving = False
        self.checkpointing = False
        self.act: Callable[[], None] = lambda: None

    def leave(self) -> None:
        self.leaving = True
        self.act()

    def checkpoint(self) -> None:
        self.checkpointing = True
        self.leave()


class _Seat:
    """A registered slot with everything it holds; `stack` gives it all back."""

    def __init__(self, birth: Birth, told: _Told, stack: ExitStack) -> None:
        self._told = told
        ground = birth.ground
        self._config = config = ground.config
        self._identity = identity = birth.identity()
        self._lifeline = birth.lifeline
        self._begun = birth.begun
        self._store = store = open_store(ground.redis_url, config)
        stack.callback(store.close)
        store.pool.prepare(epoch=ground.epoch)
        store.slots.register_slot(identity, lease_ms=config.lease_ms)
        stack.callback(_leave, store, identity)
        app = make_app(config.name, ground.redis_url)
        broker = CeleryBroker(app)
        stack.callback(broker.close)
        place = Place.of(config, birth.number)
        furnish(place)
        clear_leftovers(place)
        guard = stack.enter_context(Guard.start(mark=_mark(config, identity)))
        workspaces = Workspaces(config, slot_dir=place.root, pool=config.name, slot_id=identity.slot_id,
                                parcels=store.parcels)  # fmt: skip
        warm = Warm(guard, config, lend=workspaces.lend)
        stack.callback(warm.close)
        self._heart = Heart(store.slots, identity, guard, lease_s=config.lease_s, beat_s=config.beat_s,
                            on_leave=self._told.leave, on_lost=self._lost, on_idle=warm.tick)  # fmt: skip
        stack.callback(self._heart.close)
        self._slot = Slot(
            Tools(config=config, store=store, broker=broker, identity=identity, place=place, guard=guard,
                  heart=self._heart, journal=Journal(config.node_dir / "journal"),
                  workspaces=workspaces, binary=_found(config), node_env=ground.env, warm=warm)
        )  # fmt: skip
        self._canary = _Canary(self._sing, self._deaf)
        queues = [queue_of_slot(identity.slot_id), queue_of_node(config.node), QUEUE]
        self._ear = Ear(app, name=identity.slot_id, queues=queues, answer=self._answer,
                        on_canary=self._canary.heard, on_ready=self._ready)  # fmt: skip

    def serve(self) -> int:
        """Hear doorbells until it is over."""
        if not self._told.leaving:
            self._ear.listen()
        return SlotExit.LEFT

    def _ready(self) -> None:
        signals.answer({LEAVE: self._told.leave, CHECKPOINT: self._told.checkpoint})  # Celery has set its own
        self._told.act = self._obey
        if self._told.leaving:
            self._obey()
        threading.Thread(target=self._watch_supervisor, name="lifeline", daemon=True).start()
        self._heart.start()
        self._canary.start()
        self._begun()
        _log.info("%s is ready", self._identity.slot_id)

    def _sing(self) -> None:
        self._ear.canary()

    def _answer(self, task_id: str, link: Doorbell | None) -> bool:
        with self._canary.excused():
            return self._slot.answer(task_id, link)

    def _obey(self) -> None:
        """In a thread of its own: a signal's handler must not wait for locks."""
        threading.Thread(target=self._go, name="leave", daemon=True).start()

    def _go(self) -> None:
        if self._told.checkpointing:
            self._slot.checkpoint()
        self._ear.stop()

    def _watch_supervisor(self) -> None:
        os.read(self._lifeline, 1)
        _log.warning("%s: the supervisor is gone: leaving after the task in hand", self._identity.slot_id)
        self._told.leave()

    def _lost(self, why: str) -> None:
        _log.error("%s: %s: leaving at once", self._identity.slot_id, why)
        os._exit(SlotExit.TAKEN)

    def _deaf(self) -> None:
        _log.error("%s: hears no doorbells any more: making room for a new process", self._identity.slot_id)
        _leave(self._store, self._identity)
        os._exit(SlotExit.DEAF)


def _leave(store: Store, identity: SlotIdentity) -> None:
    try:
        store.slots.leave(identity)
    except PoolError as error:
        _log.info("%s: left without saying so: %s", identity.slot_id, error)


def _mark(config: PoolConfig, identity: SlotIdentity) -> dict[str, str]:
    """By this a sweep finds the guard."""
    return {
        "CLAUDE_POOL_NAME": config.name,
        "CLAUDE_POOL_NODE": identity.node,
        "CLAUDE_POOL_SLOT": identity.slot_id,
    }


def _found(config: PoolConfig) -> Callable[[], ClaudeBinary]:
    """The binary, looked for when the first task needs it and remembered when it was found."""

    @cache
    def find() -> ClaudeBinary:
        return find_claude(config)

    return find


class _Canary:
    """Rings the slot's own bell now and then; a bell that an idle slot does not hear in time means that it is deaf."""

    def __init__(self, ring: Callable[[], None], on_deaf: Callable[[], None]) -> None:
        self._ring = ring
        self._on_deaf = on_deaf
        self._busy = threading.Lock()
        self._heard = threading.Event()
        self._thread = threading.Thread(target=self._sing_on, name="canary", daemon=True)

    def start(self) -> None:
        """Begin to sing."""
        self._thread.start()

    def heard(self) -> None:
        """The bell was heard."""
        self._heard.set()

    def excused(self) -> threading.Lock:
        """While a task is in hand nothing else can be heard."""
        return self._busy

    def _sing_on(self) -> None:
        pause = threading.Event()
        while not pause.wait(_CANARY_EVERY_S):
            self._heard.clear()
            try:
                self._ring()
            except Exception as error:  # noqa: BLE001 - whatever Celery raises when Redis is away
                _log.info("canary: %s", error)
                continue
            if not self._heard.wait(_CANARY_EVERY_S) and not self._busy.locked() and not self._heard.is_set():
                self._on_deaf()
