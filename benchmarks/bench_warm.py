"""What warm slots save: the real CLI against the simulated model, submit to result, beside the bare CLI.

In turn, in the same rounds: a bare `claude -p` with the pool's flags, a bare one with its defaults, the Agent SDK's
`query()` within a running loop, and the pool cold, on a spare and with reuse, each in a node of its own with one slot.
Between two tasks of a node others are measured, so that its next process has booted. Throughput stands beside
`xargs -P`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from harness import Table, World, alternate, median, quick, timed_ms

from claude_pool.binary import bundled_claude
from claude_pool.testing.node import TestNode, children_of, command_line, until
from claude_pool.testing.simulated import SimulatedApi, start

FLAGS: Final = ("--strict-mcp-config", "--setting-sources=", "--permission-mode=acceptEdits")
QUIET: Final = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1", "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
}  # fmt: skip


def bare_env(world: World, api: SimulatedApi) -> dict[str, str]:
    folder = world.folder / "bare"
    folder.mkdir(exist_ok=True)
    return {"PATH": os.environ["PATH"], "HOME": str(folder), **QUIET, **api.environment}


def bare(binary: Path, env: dict[str, str], *flags: str) -> float:
    argv = [str(binary), "-p", "--output-format=json", *flags, f"--session-id={uuid.uuid4()}", "hello"]

    def run() -> None:
        done = subprocess.run(argv, env=env, cwd=env["HOME"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
        assert b'"result"' in done.stdout

    return timed_ms(run)


def by_xargs(binary: Path, env: dict[str, str], at_once: int, number: int) -> float:
    words = "\n".join(["hello"] * number).encode()
    argv = ["xargs", "-P", str(at_once), "-n", "1", str(binary), "-p", "--output-format=json", *FLAGS]
    began = time.perf_counter()
    subprocess.run(argv, input=words, env=env, cwd=env["HOME"], stdout=subprocess.DEVNULL, check=True)
    return number / (time.perf_counter() - began)


def sdk(binary: Path, env: dict[str, str]) -> Callable[[], float] | None:
    """The Agent SDK's `query()`, in a loop that goes on; None where it is not installed."""
    try:
        from claude_agent_sdk import ClaudeAgentOptions, query  # noqa: PLC0415 - not everybody has it
    except ImportError:
        return None
    options = ClaudeAgentOptions(cli_path=str(binary), env=env, cwd=env["HOME"], setting_sources=[])
    loop = asyncio.new_event_loop()

    async def ask() -> None:
        async for _ in query(prompt="hello", options=options):
            pass

    return lambda: timed_ms(lambda: loop.run_until_complete(ask()))


def asked(node: TestNode, settled: Callable[[TestNode], None]) -> float:
    """Milliseconds of one task, once the node has its process ready."""
    settled(node)
    return timed_ms(lambda: answered(node))


def answered(node: TestNode) -> None:
    result = node.pool.run("hello", wait_s=60)
    assert result.output, result


def settled(node: TestNode) -> None:
    """Wait until a process waits and has nothing more to do."""
    guard = node.guard_pid(0)

    def idle() -> bool:
        pids = [pid for pid in children_of(guard) if b"stream-json" in command_line(pid)]
        before = [_ticks(pid) for pid in pids]
        time.sleep(0.15)
        return bool(pids) and all(_ticks(pid) - was <= 1 for pid, was in zip(pids, before, strict=True))

    until(idle, "a process that waits")


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def by_pool(node: TestNode, number: int) -> float:
    requests: list[Any] = [node.pool.request("hello") for _ in range(number)]
    began = time.perf_counter()
    ids = [answer.task_id for answer in node.pool.submit_many(requests)]
    node.pool.wait(ids, timeout_s=300)
    return number / (time.perf_counter() - began)


def latency(world: World, table: Table, api: SimulatedApi, binary: Path, rounds: int) -> None:
    env = bare_env(world, api)
    with ExitStack() as stack:
        nodes = {
            warm: stack.enter_context(world.node(world.config(claude=binary, warm=warm), **api.environment))
            for warm in ("off", "spare", "reuse")
        }
        for node in nodes.values():
            answered(node)  # the first task is cold in any case
        query = sdk(binary, env)
        cold, plain, off, spare, reuse, *asking = alternate(
            rounds,
            partial(bare, binary, env, *FLAGS),
            partial(bare, binary, env),
            partial(asked, nodes["off"], lambda _: None),
            partial(asked, nodes["spare"], settled),
            partial(asked, nodes["reuse"], settled),
            *([query] if query else []),
        )
    floor_is = "bare claude -p, the pool's flags"
    table.add("bare claude -p, default flags", plain, "ms", floor=cold, floor_is=floor_is)
    for samples in asking:
        table.add("Agent SDK, query() in a loop", samples, "ms", floor=cold, floor_is=floor_is)
    for name, samples, most in (("cold", off, 1.05), ("on a spare", spare, 0.25), ("with reuse", reuse, 0.13)):
        met = median(samples) / median(cold) <= most
        table.add(f"submit to result, {name}", samples, "ms", floor=cold, floor_is=floor_is, aim=f"<= {most}", met=met)


def throughput(world: World, table: Table, api: SimulatedApi, binary: Path, number: int) -> None:
    env = bare_env(world, api)
    for warm in ("off", "spare", "reuse"):
        with world.node(world.config(claude=binary, warm=warm, slots=2), **api.environment) as node:
            mine, loops = alternate(
                2, partial(by_pool, node, number), partial(by_xargs, binary, env, 2, number), warm_up=1
            )
        table.add(f"tasks a second, 2 slots, warm = {warm}", mine, "/s", floor=loops, more_is_better=True,
                  floor_is="xargs -P 2 claude -p")  # fmt: skip


def main() -> None:
    short = quick("what warm slots save")
    binary = bundled_claude()
    if binary is None:
        print("warm: no claude binary (extra claude-pool[cli]), left out")
        return
    with World("warm") as world, start() as api, world.table() as table:
        latency(world, table, api, binary, 3 if short else 12)
        throughput(world, table, api, binary, 4 if short else 12)


if __name__ == "__main__":
    main()
