"""The MCP server over stdio: calls beside an echo tool's, waits that end, many waits at once, the start.

The floor of a call is a tool of the same SDK that gives back what it got, asked alternately through the same kind of
pipe. The client writes and reads lines by hand, so that nearly all of the time is the server's. No slot runs: tasks are
finished from here, straight in the store.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Self

from harness import World, alternate, median, quick, timed_ms

from claude_pool import Pool
from claude_pool.testing.hands import Hand
from claude_pool.testing.node import settings_env

PROGRAM = str(Path(sys.executable).with_name("claude-pool-mcp"))
ECHO = """\
from mcp.server.mcpserver import MCPServer
server = MCPServer("echo", subscriptions=False, log_level="WARNING")
@server.tool()
async def echo(text: str) -> dict[str, str]:
    return {"text": text}
server.run()
"""
_WAITS = 200


class Wire:
    """A server on two pipes, spoken to line by line."""

    def __init__(self, argv: Sequence[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._last = 0
        client = {"name": "bench", "version": "0"}
        self.answer(self.send("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client))
        self.send("notifications/initialized")

    def send(self, method: str, **params: Any) -> int:
        self._last += 1
        line = {"jsonrpc": "2.0", "method": method, "params": params}
        if not method.startswith("notifications/"):
            line["id"] = self._last
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        self.process.stdin.flush()
        return self._last

    def ask(self, tool: str, **arguments: Any) -> int:
        return self.send("tools/call", name=tool, arguments=arguments)

    def answer(self, number: int) -> dict[str, Any]:
        """The answer to a request; those to others that come before it are dropped."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if (message := json.loads(line)).get("id") == number:
                return message["result"]
        raise SystemExit("the server ended")

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        answer = self.answer(self.ask(tool, **arguments))
        assert not answer.get("isError"), answer
        return answer["structuredContent"]

    @property
    def threads(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Threads:"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def main() -> None:
    few = quick("the MCP server")
    rounds, starts, ends = (100, 3, 10) if few else (1000, 9, 100)
    with World("mcp") as world, world.table() as table:
        config = world.config()
        env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **settings_env(config)}
        argv = [PROGRAM]
        pool = Pool.open(config)
        with closing(pool), Wire(argv, env) as wire, Wire([sys.executable, "-c", ECHO], env) as echo:
            wire.call("pool_status")  # opens the pool
            floor, status, submit, result = alternate(
                rounds,
                lambda: timed_ms(lambda: echo.call("echo", text="x" * 100)),
                lambda: timed_ms(lambda: wire.call("pool_status")),
                lambda: timed_ms(lambda: wire.call("pool_submit", prompt="Say hello.")),
                partial(_result, wire, _one(wire)),
            )
            for name, samples in (("pool_status", status), ("pool_submit", submit), ("pool_result", result)):
                over = median(samples) - median(floor)
                table.add(f"{name}, p50", samples, "ms", floor=floor, floor_is="echo tool")
                if name != "pool_result":
                    table.add(f"{name}, p50 above the echo tool", over, "ms", aim="<= 3 ms", met=over <= 3)
            hand = Hand(pool.store, node="bench")
            late = [_late_ms(wire, hand) for _ in range(ends)]
            table.add("pool_wait answers after the finish", late, "ms", aim="< 50 ms", met=median(late) < 50)
            _many(table, wire, hand)
        began = [timed_ms(partial(_start, argv, env)) for _ in range(starts)]
        bare = [timed_ms(partial(_start_echo, env)) for _ in range(starts)]
        table.add(
            "start to first answered call", began, "ms", floor=bare, floor_is="echo server", aim="< 1500 ms",
            met=median(began) < 1500,
        )  # fmt: skip


def _one(wire: Wire) -> str:
    return str(wire.call("pool_submit", prompt="Say hello.")["task_id"])


def _result(wire: Wire, task_id: str) -> float:
    return timed_ms(lambda: wire.call("pool_result", task_id=task_id))


def _late_ms(wire: Wire, hand: Hand) -> float:
    """From the moment that a task is finished in the store until the wait for it has answered."""
    task_id = hand.submit()
    run = hand.run(task_id)
    waiting = wire.ask("pool_wait", ids=[task_id])
    wire.call("pool_status")  # by its answer the wait has begun, nearly always
    time.sleep(0.02)
    hand.finish(run, "completed", output="ok")
    return timed_ms(lambda: wire.answer(waiting))


def _many(table: Any, wire: Wire, hand: Hand) -> None:
    """Two hundred waits at once: threads that they take, and how long it takes until all have answered."""
    before = wire.threads
    ids = [hand.submit() for _ in range(_WAITS)]
    runs = [hand.run(task_id) for task_id in ids]
    waiting = [wire.ask("pool_wait", ids=[task_id]) for task_id in ids]
    wire.call("pool_status")
    time.sleep(1.0)
    during = wire.threads
    for run in runs:
        hand.finish(run, "completed", output="ok")
    left = set(waiting)
    began = time.perf_counter()
    assert wire.process.stdout is not None
    while left:
        left.discard(json.loads(wire.process.stdout.readline()).get("id"))
    table.add(f"threads that {_WAITS} waits add", during - before, "", aim="<= 16", met=during - before <= 16)
    table.add(f"{_WAITS} waits, all answered after the last finish", (time.perf_counter() - began) * 1000, "ms")


def _start(argv: Sequence[str], env: dict[str, str]) -> None:
    wire = Wire(argv, env)
    wire.call("pool_status")
    wire.process.kill()
    wire.process.wait()


def _start_echo(env: dict[str, str]) -> None:
    wire = Wire([sys.executable, "-c", ECHO], env)
    wire.call("echo", text="x")
    wire.process.kill()
    wire.process.wait()


if __name__ == "__main__":
    main()
