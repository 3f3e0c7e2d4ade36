"""Heart: one thread per slot that keeps the slot's lease alive and brings back what the pool wants of it.

Every beat prolongs, in one script, the slot's registration and the lease of the run it carries, and tells the guard
until when the run may live: the time is taken before the request is sent, so the guard's deadline can never lie behind
the store's. Between beats the thread listens on the slot's bell, so a cancel arrives at once.

When the store does not answer, the heart goes on trying; the guard's deadline then passes and the run is stopped, which
is the promise that no second run of the task can overlap with it. When the slot itself was superseded, `on_lost` is
called and the process has to go.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol

from claude_pool.errors import Fenced, PoolError, SlotTaken
from claude_pool.models.pool import SlotIdentity
from claude_pool.models.run import StopCause
from claude_pool.store.base import Beat, SlotStore
from workers.guarded import boottime_s

_log = logging.getLogger(__name__)


class Stoppable(Protocol):
    """What the heart can do to a run: `workers.runner.Controls`."""

    def stop(self, cause: StopCause) -> None:
        """End the run, for this reason."""
        ...


class Pulse(Protocol):
    """Who is told until when the run may live: `workers.guarded.Guard`."""

    def renew(self, deadline: float | None) -> None:
        """`deadline` is seconds on the clock of `boottime_s`."""
        ...


class _Carried:
    def __init__(self, task_id: str, run_id: str, controls: Stoppable) -> None:
        self.task_id = task_id
        self.run_id = run_id
        self.controls = controls
        self.progress = ""


class Heart:
    """The slot's pulse. `start` it after registering; `carrying` while a task is in hand."""

    def __init__(  # noqa: PLR0913 - who is told of what goes by name
        self, slots: SlotStore, slot: SlotIdentity, pulse: Pulse, *, lease_s: float, beat_s: float,
        on_leave: Callable[[], None], on_lost: Callable[[str], None], on_idle: Callable[[float], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._slots = slots
        self._slot = slot
        self._pulse = pulse
        self._lease_s = lease_s
        self._beat_s = beat_s
        self._on_leave = on_leave
        self._on_lost = on_lost
        self._on_idle = on_idle
        self._carried: _Carried | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._seen = ""
        self._left = False
        self._thread = threading.Thread(target=self._beat_on, name="heart", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def close(self) -> None:
        """Stop beating; the lease runs out unless the slot leaves properly."""
        self._closed.set()

    @contextmanager
    def carrying(self, task_id: str, run_id: str, controls: Stoppable, *, until_s: float) -> Generator[None]:
        """Keep this run's lease alive, and hand it what is asked of it. The claim's lease ends at `until_s`."""
        self._pulse.renew(until_s)
        self._carried = _Carried(task_id, run_id, controls)
        try:
            yield
        finally:
            self._carried = None

    def progress(self, line: str) -> None:
        """The latest sign of life of the run, told with the next beat."""
        if (carried := self._carried) is not None:
            carried.progress = line

    def beat(self) -> None:
        """One beat, now. Silent when the store can't be reached: the guard watches the time."""
        with self._lock:
            carried = self._carried
            asked_at = boottime_s()
            try:
                answer = self._slots.beat(
                    self._slot,
                    task_id=carried.task_id if carried else None,
                    run_id=carried.run_id if carried else None,
                    lease_ms=round(self._lease_s * 1000),
                    progress=carried.progress if carried else "",
                )
            except (SlotTaken, Fenced) as error:
                self._lost(carried, str(error))
                return
            except PoolError as error:
                _log.warning("no heartbeat: %s", error)
                return
            if not answer.fenced and carried is not None:
                self._pulse.renew(asked_at + self._lease_s)
            elif not answer.fenced:
                self._on_idle(asked_at + self._lease_s)
            self._obey(answer, carried)

    def _obey(self, answer: Beat, carried: _Carried | None) -> None:
        if answer.fenced and carried is not None and carried is self._carried:
            carried.controls.stop(StopCause.FENCED)
        elif answer.fenced:
            self._register_again()
        if answer.cancel is not None and carried is not None:
            carried.controls.stop(StopCause.CANCELLED)
        if answer.leaving and not self._left:
            self._left = True
            self._on_leave()

    def _register_again(self) -> None:
        """The registration ran out (a long pause, a restored store) while nothing was carried: ask for it again."""
        try:
            self._slots.register_slot(self._slot, lease_ms=round(self._lease_s * 1000))
        except SlotTaken as error:
            self._on_lost(str(error))

    def _lost(self, carried: _Carried | None, why: str) -> None:
        if carried is not None:
            carried.controls.stop(StopCause.FENCED)
        self._on_lost(why)

    def _beat_on(self) -> None:
        while not self._closed.is_set():
            self.beat()
            self._listen()

    def _listen(self) -> None:
        """Sleep until the next beat is due or somebody rings the slot."""
        try:
            self._seen = self._slots.await_orders(
                self._slot.slot_id, seen=self._seen, block_ms=round(self._beat_s * 1000)
            )
        except PoolError:
            self._closed.wait(self._beat_s)
