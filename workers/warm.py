"""Warm: a slot's one process that is kept ready for the task to come.

    ready      before a workspace is opened: the directory that a task without one of its own should get
    take       the process, when it fits the launch; else it is thrown away, and the cold path is taken
    give_back  after the run, before its result is written: the next one is ordered
    settle     after the result is written: a process that may serve again is looked over and cleared

`off`: nothing of this. `spare`: each process serves one task, and the next one boots while the result travels.
`reuse`: one process serves many, cleared in between, and is renewed when it is worn (`profile.worn`). A task may ask
for less than the pool's setting, never for more; one that may bypass permissions never shares a process.

Not more than one process waits, none waits beside a run, and none without the slot's lease: each heartbeat lends it
time (`tick`), and a slot that stops beating, or dies, leaves it to the guard. One that waited too long goes and is not
replaced until the slot has worked again. Where memory is short none is started.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from claude_pool.config import PoolConfig
from claude_pool.errors import CliError
from claude_pool.ids import new_run_id
from claude_pool.models.options import TaskOptions, Warmth
from claude_pool.models.run import RunFacts, StopCause
from workers.command import Launch
from workers.guarded import Guard, boottime_s
from workers.profile import Habits, Wear, ahead, profile_of, worn
from workers.spare import Spare

_log = logging.getLogger(__name__)

_UNCHECKED: Final = "bypassPermissions"
_LEAVING: Final = frozenset({StopCause.DRAINED, StopCause.FENCED})
_ORDER: Final[tuple[Warmth, ...]] = ("off", "spare", "reuse")
MEMORY: Final = Path("/proc/meminfo")
_LEAST_FREE_BYTES: Final = 768 << 20
"""A CLI takes 200 MB at its start and a run more: below this the memory belongs to what already runs."""


def warmth(config: PoolConfig, options: TaskOptions) -> Warmth:
    """How far a task may share: as the pool is set, or less."""
    asked = options.warm or config.warm
    least = min(_ORDER.index(config.warm), _ORDER.index(asked), 1 if options.permission_mode == _UNCHECKED else 2)
    return _ORDER[least]


class Warm:
    """One slot's. The slot's thread calls everything but `tick`, which is the heart's."""

    def __init__(self, guard: Guard, config: PoolConfig, *, lend: Callable[[], Path]) -> None:
        self._guard = guard
        self._config = config
        self._lend = lend
        self._habits = Habits()
        self._lock = threading.Lock()
        self._waiting: Spare | None = None
        self._used: tuple[Spare, RunFacts, Launch, TaskOptions] | None = None
        self._lent_out: Path | None = None
        """An empty directory of ours in which nothing waits any more, though a task may be in it."""

    def ready(self, options: TaskOptions) -> Path | None:
        """The empty directory in which a process waits, for a task that has none."""
        waiting = self._waiting
        if waiting is None or not waiting.scratch or warmth(self._config, options) == "off":
            return None
        return Path(waiting.launch.cwd)

    def take(self, launch: Launch, options: TaskOptions) -> Spare | None:
        """The process that waits, when it is what this launch would start; nothing waits any more afterwards."""
        with self._lock:
            spare, self._waiting = self._waiting, None
        if spare is None:
            return None
        self._lent_out = Path(spare.launch.cwd) if spare.scratch else None
        why = self._unfit(spare, launch, options)
        if not why:
            spare.stays = warmth(self._config, options) == "reuse"
            return spare
        _log.debug("a process that waited is of no use: %s", why)
        spare.end(self._guard)
        return None

    def _unfit(self, spare: Spare, launch: Launch, options: TaskOptions) -> str:
        wanted = warmth(self._config, options)
        if wanted == "off" or (spare.tasks and wanted != "reuse"):
            return "this task shares no process"
        if not spare.fits(launch, profile_of(launch)):
            return "another profile or directory"
        if not spare.settle(self._guard):
            return "it has ended"
        return spare.clear() if spare.unclear else ""

    def put_back(self, spare: Spare) -> None:
        """It was taken and not used after all."""
        self._lent_out = None
        spare.unclear = not spare.scratch
        self._wait(spare)

    def give_back(self, spare: Spare | None, facts: RunFacts, launch: Launch, options: TaskOptions) -> None:
        """A run is over, and its workspace closed: order the next process, unless this one may serve again."""
        if spare is not None and spare.alive:
            self._used = (spare, facts, launch, options)
        else:
            self._look_ahead(facts, launch, options)

    def settle(self) -> None:
        """Keep the process that may serve again, if it is fit; nobody waits for that. Harmless when there is none."""
        used, self._used = self._used, None
        if used is not None and self._kept(*used[:2]):
            self._lent_out = None
        elif used is not None:
            self._look_ahead(*used[1:])

    def _look_ahead(self, facts: RunFacts, launch: Launch, options: TaskOptions) -> None:
        self.tidy()
        try:
            if warmth(self._config, options) != "off":
                self._note(launch, options)
            if facts.exit.started and facts.stopped not in _LEAVING:
                self._order()
        except (OSError, CliError) as error:
            _log.info("no process is kept ready: %s", error)

    def _kept(self, spare: Spare, facts: RunFacts) -> bool:
        """Whether this process may serve another task; if not, it is gone afterwards."""
        spare.tasks += 1
        config = self._config
        wear = Wear(most_tasks=config.warm_tasks, most_bytes=config.warm_memory_mb << 20)
        why = worn(facts, tasks=spare.tasks, resident_bytes=spare.resident_bytes(), wear=wear)
        if not why and spare.scratch:
            why = self._emptied(spare)
        if not why:
            spare.unclear = not spare.scratch
            self._wait(spare)
            return True
        _log.debug("a process is not used again: %s", why)
        spare.end(self._guard)
        return False

    def _emptied(self, spare: Spare) -> str:
        """Why a process in a directory of ours can't stay there; empty once its conversation is."""
        try:
            used = any(Path(spare.launch.cwd).iterdir())
        except OSError:
            used = True
        return "its directory holds the task's files, or is gone" if used else spare.clear()

    def _note(self, launch: Launch, options: TaskOptions) -> None:
        scratch = options.isolation == "none" and options.working_dir is None
        if (profile := profile_of(launch)) is not None:
            self._habits.note(profile, launch, scratch=scratch)

    def _order(self) -> None:
        wanted = self._habits.commonest()
        if wanted is None or memory_is_short():
            return
        profile, launch, scratch = wanted
        if scratch:
            launch = launch.evolve(cwd=str(self._lend()))
        launch = ahead(launch, session_id=new_run_id(), run_id=new_run_id())
        until_s = boottime_s() + self._config.lease_s
        self._wait(Spare.begin(self._guard, launch, profile, scratch=scratch, until_s=until_s))

    def _wait(self, spare: Spare) -> None:
        spare.stays = False
        with self._lock:
            self._guard.rest(spare.child, boottime_s() + self._config.lease_s)
            self._waiting = spare

    def tidy(self) -> None:
        """No task is in a directory of ours any more: what is empty goes, what a task left stays."""
        if self._lent_out is not None:
            with contextlib.suppress(OSError):
                self._lent_out.rmdir()
            self._lent_out = None

    def tick(self, until_s: float) -> None:
        """The slot's lease goes on until then, and so does the life of the process that waits, unless it is too old."""
        with self._lock:
            spare = self._waiting
            if spare is not None and boottime_s() < spare.born_s + self._config.warm_age_s:
                self._guard.rest(spare.child, until_s)
            elif spare is not None:
                self._guard.kill(spare.child)  # its end is noted when somebody next wants it

    def close(self) -> None:
        """Nothing waits any more."""
        if self._used is not None:
            self._used[0].end(self._guard)
        with self._lock:
            spare, self._waiting = self._waiting, None
        if spare is not None:
            self._lent_out = Path(spare.launch.cwd) if spare.scratch else None
            spare.end(self._guard)
        self.tidy()


def memory_is_short() -> bool:
    """Whether the machine has too little memory left for a process that nobody needs yet."""
    try:
        lines = MEMORY.read_text().splitlines()
    except OSError:
        return False
    free_kb = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    return free_kb is not None and free_kb << 10 < _LEAST_FREE_BYTES
