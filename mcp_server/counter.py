"""Counter: the synchronous Pool, asked from an event loop.

Duties: open the pool once, when it is first wanted; carry each question into a thread of a bounded number; wait for
tasks without holding a thread, so that hundreds of waits cost nothing but memory; start the node that was ordered.

The pool that can't be opened is no reason to end: whoever asks gets the error, and the next question tries again.
Nothing durable lives here. Closing gives everything back and leaves the pool's tasks alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import anyio
import anyio.to_thread

from claude_pool.errors import PoolError
from claude_pool.models.events import TaskEvent
from claude_pool.models.task import Submitter, TaskState
from mcp_server.session import present, scrubbed_environment

if TYPE_CHECKING:  # the pool brings Celery and Redis with it: a third of the start-up, and not needed to say hello
    from claude_pool.config import PoolConfig
    from claude_pool.desks.tasks import Waited
    from claude_pool.pool import Pool

_log = logging.getLogger(__name__)

T = TypeVar("T")
Tell = Callable[[int, int], Awaitable[None]]
"""Told while a wait lasts: how many tasks are not settled, and how many are."""

BEAT_S: Final = 20.0
"""Clients give up a call that is silent for minutes; a sign of life this often is far from that."""
_THREADS: Final = 16
_RESTS: Final = frozenset({TaskState.PARKED, TaskState.PENDING_REVIEW})
_CLOSE_S: Final = 5.0


class Counter:
    """One pool for all calls of a server."""

    def __init__(
        self, config: PoolConfig, *, submitter: Submitter, slots: int | None = None, pool: Pool | None = None
    ) -> None:
        """`slots` orders a node of this host, unless one is there. A `pool` that is given is not closed."""
        self.config = config
        self.submitter = submitter
        self.notes: list[str] = []
        """What the coordinator should know about the start of the node, one sentence each."""
        self._slots = slots
        self._given = pool
        self._pool = pool
        self._exit = ExitStack()
        self._opening = anyio.Lock()
        self._limiter = anyio.CapacityLimiter(_THREADS)

    async def pool(self) -> Pool:
        """The pool, opened now or before. Raises PoolError."""
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await self._thread(self._open)
        return self._pool

    async def ask(self, question: Callable[[Pool], T]) -> T:
        """A question to the pool, in a thread. A caller that is cancelled leaves; the answer is dropped."""
        pool = await self.pool()
        return await self._thread(partial(question, pool))

    async def wait(
        self,
        ids: Sequence[str],
        *,
        until: Literal["any", "all"] = "all",
        after: str | None = None,
        timeout_s: float,
        tell: Tell,
    ) -> Waited:
        """What `Pool.wait` gives, without a thread while nothing happens. Raises NotFound."""
        pool = await self.pool()
        bell = _Bell()
        with ExitStack() as stack:
            await self._thread(partial(stack.enter_context, pool.hub.listening(ids, bell.hear)))
            waited = await self._look(pool, ids, after)
            with anyio.move_on_after(timeout_s):
                while waited.running and not (until == "any" and waited.finished):
                    await tell(len(waited.running), len(ids) - len(waited.running))
                    await bell.rung(BEAT_S)
                    waited = await self._look(pool, ids, after)
                return waited
        # time was up while we listened, or in the middle of a look: one last look tells
        waited = await self._look(pool, ids, after)
        return waited.evolve(timed_out=bool(waited.running) and not (until == "any" and waited.finished))

    async def close(self) -> None:
        """Give everything back, within some seconds. Harmless twice."""
        with anyio.move_on_after(_CLOSE_S, shield=True):
            await anyio.to_thread.run_sync(self._exit.close, abandon_on_cancel=True)
        self._pool = self._given

    async def _look(self, pool: Pool, ids: Sequence[str], after: str | None) -> Waited:
        return await self._thread(partial(pool.look, ids, after=after))

    async def _thread(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

    def _open(self) -> Pool:
        from claude_pool.pool import Pool  # noqa: PLC0415 - see above: only when it is wanted, and in a thread

        pool = Pool.open(self.config, submitter=self.submitter, ring_later=True)
        self._exit.callback(pool.close)
        self._exit.enter_context(present(self.config))
        if self._slots:
            # a thread of its own that nobody waits for: the first call must not wait until slots are there
            threading.Thread(target=self._start_node, args=(pool, self._slots), name="node", daemon=True).start()
        return pool

    def _start_node(self, pool: Pool, slots: int) -> None:
        from claude_pool.nodes import ensure_node, find_node  # noqa: PLC0415 - the same

        starting = f"Node {self.config.node} is starting with {slots} slots; tasks can be handed in already."
        try:
            if find_node(pool, self.config.node) is not None:
                return
            self.notes.append(starting)
            ensure_node(pool, slots=slots, idle_exit=True, env=scrubbed_environment(os.environ))
        except (PoolError, OSError) as error:
            _log.error("the node did not start: %s", error)
            self.notes.append(f"The node did not start, so nothing runs here: {error}")
        finally:
            if starting in self.notes:
                self.notes.remove(starting)


class _Bell:
    """Rung from the hub's thread, heard in the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = anyio.Event()

    def hear(self, event: TaskEvent | None) -> None:
        """Only what can settle a task wakes the waiter: a task that starts is no news to it."""
        if event is None or event.state is None or event.state.final or event.state in _RESTS:
            try:
                self._loop.call_soon_threadsafe(self._ring)
            except RuntimeError:
                _log.debug("an event came after the loop had ended")

    def _ring(self) -> None:
        self._event.set()

    async def rung(self, timeout_s: float) -> None:
        """Until it is rung, or time is up."""
        with anyio.move_on_after(timeout_s):
            await self._event.wait()
        self._event = anyio.Event()
