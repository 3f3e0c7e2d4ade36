"""Whom to hurt: the processes of the nodes, found in /proc and not by the pool's word; and the queue of doorbells."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path

from claude_pool.testing.node import TestNode, children_of, command_line
from claude_pool.testing.redis_server import RedisServer


class Victims:
    """Finds processes by their place in the tree: supervisor, slot, guard, CLI."""

    def __init__(self, rng: random.Random, nodes: Sequence[TestNode], server: RedisServer, pool: str) -> None:
        self._rng = rng
        self._nodes = nodes
        self._server = server
        self._pool = pool

    def _children(self) -> list[int]:
        return [
            pid
            for node in self._nodes
            if node.process is not None and node.process.poll() is None
            for pid in children_of(node.pid)
        ]

    def guards_of(self, pid: int) -> list[int]:
        """The guards below a slot: one, once it has started."""
        return [child for child in children_of(pid) if b"guard.py" in command_line(child)]

    def slots(self) -> list[int]:
        """Every slot that has a guard."""
        return [pid for pid in self._children() if self.guards_of(pid)]

    def _one_of(self, pids: list[int]) -> int | None:
        return self._rng.choice(pids) if pids else None

    def slot(self) -> int | None:
        """A slot, busy ones rather than idle ones."""
        slots = self.slots()
        busy = [pid for pid in slots if any(children_of(guard) for guard in self.guards_of(pid))]
        return self._one_of(busy if busy and self._rng.random() < 0.7 else slots)

    def guard(self) -> int | None:
        return self._one_of([guard for pid in self.slots() for guard in self.guards_of(pid)])

    def cli(self) -> int | None:
        return self._one_of(
            [cli for pid in self.slots() for guard in self.guards_of(pid) for cli in children_of(guard)]
        )

    def housekeeper(self) -> int | None:
        """A child of a supervisor without a guard."""
        return self._one_of([pid for pid in self._children() if not self.guards_of(pid)])

    @staticmethod
    def kill(pid: int | None) -> str | None:
        """SIGKILL; what was hit."""
        if pid is None:
            return None
        line = command_line(pid).replace(b"\0", b" ").decode(errors="replace")[-60:]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return f"{pid} {line}"
        return None

    # The server and its queues

    def meddle(self, kind: str, ids: Sequence[str]) -> str | None:
        """Something with connections or doorbells."""
        if kind == "client_kill":
            self._server.command("CLIENT", "KILL", "TYPE", "normal")
            return "all connections"
        queue = f"{self._pool}:mq:tasks" + self._rng.choice(["", *(f"\x06\x16{priority}" for priority in range(1, 5))])
        if kind == "bells_lost":
            self._server.command("RPOP", queue, "5")
            return queue
        seen = self._peek(queue)
        if seen is None:
            return None
        if kind == "bells_forged":
            task_id = self._rng.choice(["t-0000000000", "", "../../etc/passwd", self._rng.choice(ids or [""])])
            seen = seen.replace(str(json.loads(seen)["headers"]["id"]), task_id)
        for _ in range(3):
            self._server.command("LPUSH", queue, seen)
        return queue

    def _peek(self, queue: str) -> str | None:
        """A message as it lies in the queue."""
        _, _, message = self._server.command("LINDEX", queue, "0").partition(b"\r\n")
        try:
            json.loads(message)
        except ValueError:  # an empty queue, a server that has only just begun, half of a message
            return None
        return message.decode().strip()


def marked(value: str, *, variable: str = "CLAUDE_POOL_NAME") -> dict[int, str]:
    """Every process that carries the mark of a pool (or of a run), with its command line."""
    mark, found = f"{variable}={value}".encode() + b"\0", dict[int, str]()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes() + b"\0":
                found[int(folder.name)] = command_line(int(folder.name)).replace(b"\0", b" ").decode(errors="replace")
    return found
