"""Controls: what the rest of a slot wants of the run under way, from any thread, at any time.

A heartbeat that brings a cancel, a signal that begins a drain and a coordinator's message all end here; the runner is
woken at once and does what is wanted. Wants that come before the run wait for it, those that come after it are kept
and harm nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Generator
from typing import Final

from claude_pool.models.run import StopCause

_RANK: Final = {StopCause.NONE: 0, StopCause.CANCELLED: 2, StopCause.FENCED: 3}


def outranks(cause: StopCause, other: StopCause) -> bool:
    """A fence outranks a cancel, a cancel a deadline or a drain; of equals the first stays."""
    return _RANK.get(cause, 1) > _RANK.get(other, 1)


class Controls:
    """One run's wishes. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = StopCause.NONE
        self._said: list[str] = []
        self._bell = -1

    @property
    def stopped(self) -> StopCause:
        """Why the run shall end; NONE as long as it may go on."""
        return self._stopped

    def stop(self, cause: StopCause) -> None:
        """End the run, for this reason."""
        with self._lock:
            if outranks(cause, self._stopped):
                self._stopped = cause
            self._ring()

    def say(self, text: str) -> None:
        """Give the model a further message; the CLI folds it into the turn that is under way."""
        with self._lock:
            self._said.append(text)
            self._ring()

    def take_said(self) -> list[str]:
        """Messages since the last call."""
        with self._lock:
            said, self._said = self._said, []
        return said

    @contextlib.contextmanager
    def heard(self) -> Generator[int]:
        """A descriptor that becomes readable whenever something was wanted; for the runner."""
        ear, bell = os.pipe()
        os.set_blocking(ear, False)
        os.set_blocking(bell, False)
        with self._lock:
            self._bell = bell
            self._ring()
        try:
            yield ear
        finally:
            with self._lock:
                self._bell = -1
            os.close(ear)
            os.close(bell)

    def _ring(self) -> None:
        if self._bell >= 0:
            with contextlib.suppress(BlockingIOError):  # full: it rings already
                os.write(self._bell, b"!")
