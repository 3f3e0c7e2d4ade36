"""The program on stdin and stdout, with a real Redis, a real node and the fake claude; and every way it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from claude_pool.config import PoolConfig, load
from claude_pool.embedded import running, stop
from claude_pool.pool import Pool

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

PROGRAM = Path(sys.executable).with_name("claude-pool-mcp")
SIGNALS = {
    "EOF": ([], 0),
    "SIGTERM": ([signal.SIGTERM], 143),
    "SIGINT": ([signal.SIGINT], 130),
    "SIGHUP": ([signal.SIGHUP], 129),
    "as the client does it": ([signal.SIGINT, signal.SIGTERM], 130),
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def env(pool_config: Any) -> dict[str, str]:
    config: PoolConfig = pool_config()
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "CLAUDE_POOL_HOME": str(config.home),
        "CLAUDE_POOL_NAME": config.name,
        "CLAUDE_POOL_NODE": config.node,
        "CLAUDE_POOL_CLAUDE": str(config.claude),
        "CLAUDE_POOL_LEASE_S": "2",
        "CLAUDE_POOL_SLACK_S": "0.2",
        "CLAUDE_POOL_REDIS_LINGER_S": "0",
        "CLAUDECODE": "1",
        "CLAUDE_CODE_SESSION_ID": "0123abcd-0000",
    }


@pytest.fixture
def ended(env: dict[str, str]) -> Iterator[PoolConfig]:
    """The pool's settings; afterwards its node and its Redis are gone."""
    config = load(env=env)[0]
    yield config
    if running(config) is None:
        return
    with closing(Pool.open(config)) as pool:
        pool.drain(now=True)
    stop(config)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_two_tasks_are_dispatched_waited_for_once_and_read(
    env: dict[str, str], ended: PoolConfig, mode: str
) -> None:
    server = StdioServerParameters(command=str(PROGRAM), args=["--slots", "2"], env=env)
    async with Client(server, mode=mode, read_timeout_seconds=60) as client:

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            answer = await client.call_tool(tool, arguments)
            assert not answer.is_error, answer.content
            return answer.structured_content

        assert "pool_wait" in {tool.name for tool in (await client.list_tools()).tools}
        ids = [(await call("pool_submit", prompt=f'[[fake:ok text="{word}" cost=0.02]]'))["task_id"] for word in "ab"]
        waited = await call("pool_wait", ids=ids, timeout_s=50)
        assert [one["state"] for one in waited["finished"]] == ["completed", "completed"]
        for task_id, word in zip(ids, "ab", strict=True):
            found = await call("pool_result", task_id=task_id)
            assert f"\n{word}\n" in found["output"]
            assert found["cost_usd"] == pytest.approx(0.02)
        listed = await call("pool_list_tasks")
        assert {one["by"] for one in listed["tasks"]} == {"session-0123abcd"}
        assert (await call("pool_status"))["slots"] == 2

    # the session is over; its node is not, and has nothing of the session in its environment
    with closing(Pool.open(ended)) as pool:
        (node,) = [node for node in pool.nodes() if node.alive]
    inherited = await anyio.Path(f"/proc/{node.identity.pid}/environ").read_bytes()
    assert b"CLAUDE_POOL_NAME=" in inherited
    assert b"CLAUDECODE" not in inherited
    assert b"0123abcd" not in inherited


class Wire:
    """The program, spoken to line by line."""

    def __init__(self, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [PROGRAM], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._last = 0

    def send(self, method: str, **params: Any) -> int:
        self._last += 1
        line = {"jsonrpc": "2.0", "method": method, "params": params}
        if not method.startswith("notifications/"):
            line["id"] = self._last
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        self.process.stdin.flush()
        return self._last

    def answer(self, number: int) -> dict[str, Any]:
        for line in self.process.stdout:
            if (message := json.loads(line)).get("id") == number:
                return message
        raise AssertionError(self.process.stderr.read())

    def greet(self) -> None:
        client = {"name": "t", "version": "0"}
        self.answer(self.send("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client))
        self.send("notifications/initialized")

    def end(self) -> int:
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()


@pytest.mark.parametrize("way", SIGNALS)
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in a wait"])
def test_it_ends_at_once_however_it_is_ended_and_gives_everything_back(
    env: dict[str, str], ended: PoolConfig, way: str, busy: bool
) -> None:
    signals, code = SIGNALS[way]
    wire = Wire(env)
    wire.greet()
    submitted = wire.answer(wire.send("tools/call", name="pool_submit", arguments={"prompt": "x"}))
    task_id = submitted["result"]["structuredContent"]["task_id"]
    if busy:
        wire.send("tools/call", name="pool_wait", arguments={"ids": [task_id]})
        wire.answer(wire.send("tools/call", name="pool_status", arguments={}))
    timers = [threading.Timer(0.1 * place, wire.process.send_signal, [number]) for place, number in enumerate(signals)]
    for timer in timers:
        timer.start()
    if not signals:
        wire.process.stdin.close()
    try:
        assert wire.process.wait(20) == code
    finally:
        for timer in timers:
            timer.cancel()
        complaints = wire.process.stderr.read()
        wire.end()
    assert b"Traceback" not in complaints
    with closing(Pool.open(ended)) as pool:
        assert pool.get(task_id).state == "pending", "only the session has ended"


def test_stdout_belongs_to_the_protocol_also_when_the_pool_can_not_be_reached(env: dict[str, str]) -> None:
    wire = Wire({**env, "CLAUDE_POOL_REDIS_URL": "redis://127.0.0.1:1/0"})
    wire.greet()
    assert wire.answer(wire.send("tools/list"))["result"]["tools"]
    answer = wire.answer(wire.send("tools/call", name="pool_status", arguments={}))["result"]
    assert answer["isError"] is True
    assert "unreachable: " in answer["content"][0]["text"]
    wire.process.stdin.close()
    assert wire.end() == 0


def test_a_wrong_setting_is_told_on_stderr_before_anything_is_served(env: dict[str, str]) -> None:
    done = subprocess.run(
        [PROGRAM], env={**env, "CLAUDE_POOL_SLOTS": "many"}, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"slots = 'many' (from CLAUDE_POOL_SLOTS)" in done.stderr
