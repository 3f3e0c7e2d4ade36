"""Signals in forked children: none may arrive before the child knows what to do with it.

The parent blocks them before it forks; the child sets its own handlers and lets them through. Without that, a signal
that arrives in between would meet the parent's handler in the child, and be lost.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Final

LEAVE: Final = signal.SIGTERM
"""Finish what is in hand, begin nothing more, and leave."""

CHECKPOINT: Final = signal.SIGUSR2
"""Stop what runs so that it can be continued, and leave. (Celery keeps SIGUSR1 for itself.)"""

_HELD: Final = frozenset({LEAVE, CHECKPOINT, signal.SIGINT})


def hold() -> None:
    """Keep them back, before a fork."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def release() -> None:
    """Let them through again, in the parent."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


def answer(handlers: Mapping[signal.Signals, Callable[[], None]]) -> None:
    """In the child: these handlers, a deaf ear to the terminal's SIGINT, and let everything through."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number, handler in handlers.items():
        signal.signal(number, _without_arguments(handler))
    release()


def _without_arguments(handler: Callable[[], None]) -> Callable[[int, object], None]:
    def handle(number: int, frame: object) -> None:
        del number, frame
        handler()

    return handle
