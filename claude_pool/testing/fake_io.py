"""The pipes of the fake `claude`: whole events out, messages and control requests in, one thread, no buffers between.

Waiting and listening are one thing: whoever waits also reads stdin, so an `interrupt` request comes through in the
middle of a turn, as in the real CLI. A reader that goes away is no reason to stop (the real CLI goes on, and spends).
"""

from __future__ import annotations

import json
import os
import select
import time

TYPE_CHECKING = False  # spares the fake the 3 ms that importing typing costs, in every run
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_CHUNK = 1 << 16
_TICK_S = 0.1
ANSWERED = frozenset(
    {
        "initialize",
        "set_model",
        "set_permission_mode",
        "set_max_thinking_tokens",
        "mcp_status",
        "get_context_usage",
        "get_usage",
        "get_session_cost",
        "get_status",
        "end_session",
    }
)


class Interrupted(Exception):
    """The host asked for the turn to end (control request `interrupt`, or SIGINT)."""


class BadLine(Exception):
    """A line on stdin is not JSON; the real CLI exits 1."""


class Pipes:
    """stdin and stdout of one process. `tick` is called about ten times a second while it waits."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self.messages: list[dict[str, Any]] = []
        self.open = True
        self.deaf = False
        """Requests and messages are read and dropped: the process has stopped listening."""
        self.stop_at_once = False
        self._tick = tick
        self._rest = b""
        self._broken = False

    def emit(self, event: dict[str, Any]) -> None:
        self.write(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    def write(self, data: bytes, *, fd: int = 1) -> None:
        """Write all of it, however slowly it is taken; a reader that has gone is ignored."""
        view = memoryview(data)
        while view and not (self._broken and fd == 1):
            try:
                view = view[os.write(fd, view[:_CHUNK]) :]
            except BrokenPipeError:
                self._broken = self._broken or fd == 1
                return
            except OSError:  # it was closed on purpose
                return

    def wait(self, seconds: float, *, wake_on_message: bool = False) -> bool:
        """Wait, hearing stdin meanwhile; True when a message cut it short. Raises Interrupted."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if wake_on_message and self.messages:
                return True
            self._tick()
            self._hear(min(left, _TICK_S))
        return False

    def next_message(self) -> dict[str, Any] | None:
        """The next message of the user; None at the end of stdin."""
        while not self.messages and self.open and not self.stop_at_once:
            self._hear(None)
        return self.messages.pop(0) if self.messages and not self.stop_at_once else None

    def _hear(self, timeout_s: float | None) -> None:
        if not self.open:
            if timeout_s:
                time.sleep(timeout_s)
            return
        ready, _, _ = select.select([0], [], [], timeout_s)
        if ready:
            self._take(os.read(0, _CHUNK))

    def _take(self, data: bytes) -> None:
        if not data:
            self.open = False
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.strip() and not self.deaf:
                self._line(line)

    def _line(self, line: bytes) -> None:
        try:
            value = json.loads(line)
            kind = value["type"]
        except (ValueError, TypeError, KeyError):
            raise BadLine(f"Error parsing streaming input line: {line[:200]!r}") from None
        if kind == "user":
            self.messages.append(value)
        elif kind == "control_request":
            self._control(value)

    def _control(self, value: dict[str, Any]) -> None:
        request: dict[str, Any] = value.get("request") or {}
        subtype = str(request.get("subtype"))
        answer: dict[str, Any] = {"subtype": "success", "request_id": value.get("request_id"), "response": {}}
        if subtype == "interrupt":
            answer["response"] = {"still_queued": [], "cancelled": []}
        elif subtype == "initialize":
            answer["response"] = {"commands": [], "models": [], "account": {}, "pid": os.getpid()}
        elif subtype not in ANSWERED:
            answer = {
                "subtype": "error",
                "request_id": value.get("request_id"),
                "error": f"Unsupported control request subtype: {subtype}",
                "error_code": "unsupported_request",
            }
        self.emit({"type": "control_response", "response": answer})
        if subtype == "end_session":
            self.stop_at_once = True
        if subtype == "interrupt":
            if request.get("cancel_queued"):
                self.messages.clear()
            raise Interrupted
