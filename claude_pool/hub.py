"""Hub: one reader of the pool's events per process, however many wait.

A waiter subscribes first and looks at the store second, so nothing that happens in between is missed. When the store
can't be read, every waiter is told that there was a gap (None) and looks at the store again; the hub itself goes on
trying with growing pauses. It holds one thread and one connection, and only while somebody waits.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Final

from claude_pool.errors import PoolError
from claude_pool.models.events import TaskEvent
from claude_pool.store.base import EventStore

_log = logging.getLogger(__name__)

Listener = Callable[[TaskEvent | None], None]
"""Called in the hub's thread with each event, and with None after a gap; must not block."""

_BLOCK_MS: Final = 1_000
_PAUSES_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)


class Hub:
    """Hands each event to whoever waits for its subject."""

    def __init__(self, events: EventStore) -> None:
        self._events = events
        self._lock = threading.Lock()
        self._listeners: dict[int, tuple[frozenset[str] | None, Listener]] = {}
        self._next = 0
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    @contextmanager
    def listening(self, subjects: Collection[str] | None, listener: Listener) -> Generator[None]:
        """Hear of these subjects (None: of all) from now on. Raises Unreachable when the store can't be read now."""
        wanted = None if subjects is None else frozenset(subjects)
        with self._lock:
            key = self._next = self._next + 1
            self._listeners[key] = (wanted, listener)
            if self._thread is None or not self._thread.is_alive():
                try:
                    cursor = self._events.head()
                except PoolError:
                    del self._listeners[key]
                    raise
                self._thread = threading.Thread(target=self._read, args=(cursor,), name="hub", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._listeners.pop(key, None)

    @contextmanager
    def inbox(self, subjects: Collection[str] | None) -> Generator[Inbox]:
        """The same for a waiter with a thread of its own."""
        inbox = Inbox()
        with self.listening(subjects, inbox.put):
            yield inbox

    def close(self) -> None:
        """Stop reading; the thread leaves after its current read."""
        self._closed.set()

    def _read(self, cursor: str) -> None:
        failures = 0
        while not self._closed.is_set():
            with self._lock:
                if not self._listeners:
                    self._thread = None
                    return
            try:
                events, cursor = self._events.read(cursor, block_ms=_BLOCK_MS)
            except PoolError as error:
                if not self._closed.is_set():
                    _log.warning("events can't be read, trying again: %s", error)
                self._closed.wait(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
                failures += 1
                self._tell(None)
                continue
            failures = 0
            for event in events:
                self._tell(event)

    def _tell(self, event: TaskEvent | None) -> None:
        with self._lock:
            listeners = list(self._listeners.values())
        for wanted, listener in listeners:
            if event is None or wanted is None or event.subject in wanted:
                listener(event)


class Inbox:
    """Events for one waiting thread."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[TaskEvent | None] = SimpleQueue()

    def put(self, event: TaskEvent | None) -> None:
        """Called by the hub."""
        self._queue.put(event)

    def take(self, timeout_s: float | None) -> bool:
        """Wait for news and take all there is. False when time ran out without any."""
        try:
            self._queue.get(timeout=timeout_s)
        except Empty:
            return False
        while not self._queue.empty():
            self._queue.get()
        return True
