"""Staff: the slots of a node as processes. Which live, which must go, which are tried again and when.

Decisions only; forking, signals and waiting are behind `Processes`, so that the rules can be tested without any. A slot
that dies is replaced after a growing pause; one that dies young several times in a row is given up as errored, with the
reason, until somebody changes the number of slots.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from workers.signals import CHECKPOINT, LEAVE
from workers.slot_process import SlotExit

_log = logging.getLogger(__name__)

QUICK_DEATH_S: Final = 20.0
"""A slot that lived longer than this did start; its end is no failure to start."""
GIVE_UP_AFTER: Final = 6
TAKEN_PAUSE_S: Final = 1.0
PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)

_REASONS: Final[dict[int, str]] = {
    SlotExit.DEAF: "its Celery consumer went deaf",
    SlotExit.BROKEN: "it failed; the node's log says why",
}


class Processes(Protocol):
    """What the operating system does for us."""

    def fork_slot(self, number: int) -> int:
        """Start a slot's process; its pid."""
        ...

    def began(self, number: int) -> bool:
        """Whether the slot's latest process came so far as to hear doorbells."""
        ...

    def signal(self, pid: int, number: int) -> None:
        """Send a signal; silent when the process is gone."""
        ...

    def buried(self) -> list[tuple[int, int]]:
        """Children that ended since the last call: pid and exit status, negative for a signal."""
        ...

    def mourn(self, number: int, pid: int) -> None:
        """A slot died in the middle of things: clear up after it and tell the pool."""
        ...


@dataclass
class Seat:
    """One slot's place."""

    number: int
    pid: int | None = None
    born: float = 0.0
    quick_deaths: int = 0
    start_at: float = 0.0
    leaving: bool = False
    checkpointed: bool = False
    errored: str = ""


class Staff:
    """The node's slots. Call `look` now and then."""

    def __init__(self, processes: Processes, *, now: Callable[[], float]) -> None:
        self._processes = processes
        self._now = now
        self._seats: dict[int, Seat] = {}
        self._target = 0

    @property
    def alive(self) -> int:
        """Slots with a process."""
        return sum(seat.pid is not None for seat in self._seats.values())

    @property
    def errored(self) -> dict[int, str]:
        """Slots that were given up, with the reason."""
        return {seat.number: seat.errored for seat in self._seats.values() if seat.errored}

    def want(self, target: int, *, busy: Callable[[], Collection[int]]) -> None:
        """Have this many slots from now on. Idle ones go first; a busy one goes after its task."""
        if target == self._target:
            return
        self._target = target
        for seat in self._seats.values():
            seat.errored, seat.quick_deaths = "", 0
        staying = [seat for seat in self._seats.values() if not seat.leaving]
        if (too_many := len(staying) - target) > 0:
            at_work = set(busy())
            staying.sort(key=lambda seat: (seat.number in at_work, -seat.number))
            for seat in staying[:too_many]:
                self._dismiss(seat)

    def look(self) -> None:
        """Bury the dead, fill the empty seats."""
        for pid, status in self._processes.buried():
            if (seat := self._seat_of(pid)) is not None:
                self._bury(seat, status)
        staying = [seat for seat in self._seats.values() if not seat.leaving]
        for _ in range(self._target - len(staying)):
            number = next(n for n in range(len(self._seats) + 1) if n not in self._seats)
            self._seats[number] = Seat(number)
        for seat in self._seats.values():
            if seat.pid is None and not seat.errored and not seat.leaving and self._now() >= seat.start_at:
                seat.pid, seat.born = self._processes.fork_slot(seat.number), self._now()

    def dismiss_all(self) -> None:
        """Everybody leaves after the task in hand."""
        self._target = 0
        for seat in list(self._seats.values()):
            self._dismiss(seat)

    def checkpoint_all(self) -> None:
        """Everybody stops, so that the task in hand can be continued elsewhere, and leaves."""
        self.dismiss_all()
        for seat in self._seats.values():
            if seat.pid is not None and not seat.checkpointed:
                seat.checkpointed = True
                self._processes.signal(seat.pid, CHECKPOINT)

    def kill_all(self) -> None:
        """The last means: their guards stop the runs."""
        for seat in self._seats.values():
            if seat.pid is not None:
                self._processes.signal(seat.pid, signal.SIGKILL)

    def _dismiss(self, seat: Seat) -> None:
        if seat.pid is None:
            del self._seats[seat.number]
        elif not seat.leaving:
            seat.leaving = True
            self._processes.signal(seat.pid, LEAVE)

    def _seat_of(self, pid: int) -> Seat | None:
        return next((seat for seat in self._seats.values() if seat.pid == pid), None)

    def _bury(self, seat: Seat, status: int) -> None:
        if status not in (SlotExit.LEFT, SlotExit.TAKEN) and seat.pid is not None:
            self._processes.mourn(seat.number, seat.pid)
        seat.pid = None
        if seat.leaving:
            del self._seats[seat.number]
            return
        if status == SlotExit.TAKEN:  # an earlier incarnation still finishes its task, or its lease has to run out
            seat.start_at = self._now() + TAKEN_PAUSE_S
            return
        why = _REASONS.get(status, f"it was killed by signal {-status}" if status < 0 else f"it ended with {status}")
        killed = status == -signal.SIGKILL and self._processes.began(seat.number)  # that says nothing about starting
        young = not killed and self._now() - seat.born < QUICK_DEATH_S
        seat.quick_deaths = seat.quick_deaths + 1 if young else 0
        if seat.quick_deaths >= GIVE_UP_AFTER:
            seat.errored = f"given up after {seat.quick_deaths} starts: {why}"
            _log.error("slot %d: %s", seat.number, seat.errored)
            return
        pause = PAUSES_S[min(seat.quick_deaths, len(PAUSES_S) - 1)]
        seat.start_at = self._now() + pause
        _log.warning("slot %d is gone: %s; a new one starts in %.1f s", seat.number, why, pause)
