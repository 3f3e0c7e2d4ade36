"""Stdio: the server on stdin and stdout, and how it ends.

Clients end a server by SIGINT, SIGTERM a tenth of a second later, and SIGKILL half a second after that; or by closing
its stdin. Whatever comes first, the lifespan's clean-up runs and the process is gone at once. The reader of stdin sits
in a thread that nobody can wake, and an interpreter that ends around it may abort; so after the clean-up the process
leaves without that ceremony, with 0 after the end of input and 128 + N after signal N.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Final, NoReturn

import anyio
from mcp.server.mcpserver import MCPServer

from mcp_server.counter import Counter

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLEAN_UP_S: Final = 0.35
"""Between the first signal and the SIGKILL that follows it there is half a second."""


def serve(build: Callable[[anyio.Event], MCPServer[Counter]]) -> NoReturn:
    """Serve until the end of input or a signal, and end the process."""
    anyio.run(_serve, build)
    leave(0)


async def _serve(build: Callable[[anyio.Event], MCPServer[Counter]]) -> None:
    closed = anyio.Event()
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as serving:
            await tasks.start(_watch, serving, closed)
            await build(closed).run_stdio_async()
        tasks.cancel_scope.cancel()


async def _watch(serving: anyio.CancelScope, closed: anyio.Event, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(*_SIGNALS) as signals:
        task_status.started()
        async for number in signals:
            serving.cancel()
            with anyio.move_on_after(_CLEAN_UP_S, shield=True):
                await closed.wait()
            leave(128 + number)


def leave(code: int) -> NoReturn:
    """End the process here and now; all that was written is out."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the client is gone, or the stream is closed
            continue
    os._exit(code)
