"""The program over HTTP: tokens, scopes, Host and Origin, whose tasks are whose, and a graceful end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from claude_pool.config import PoolConfig, load
from claude_pool.embedded import running, stop
from claude_pool.pool import Pool

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

PROGRAM = Path(sys.executable).with_name("claude-pool-mcp")
ERAS = ["auto", "legacy"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Service:
    """A server that runs, and its owner."""

    process: subprocess.Popen[bytes]
    url: str
    env: dict[str, str]
    config: PoolConfig

    def token(self, scopes: str, name: str) -> str:
        argv = [PROGRAM, "--new-token", scopes, "--token-name", name]
        return subprocess.run(argv, env=self.env, capture_output=True, check=True).stdout.decode().strip()


@pytest.fixture
def service(pool_config: Any) -> Iterator[Service]:
    config: PoolConfig = pool_config()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "CLAUDE_POOL_HOME": str(config.home),
        "CLAUDE_POOL_NAME": config.name,
        "CLAUDE_POOL_NODE": config.node,
        "CLAUDE_POOL_REDIS_LINGER_S": "0",
    }
    argv = [PROGRAM, "--http", "--port", "0"]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().decode().strip()
            assert url.startswith("http://127.0.0.1:"), process.stderr and process.stderr.read()
            yield Service(process, url, env, load(env=env)[0])
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
    if running(load(env=env)[0]) is not None:
        stop(load(env=env)[0])


Connect = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def connect(service: Service) -> Connect:
    @asynccontextmanager
    async def connected(token: str, mode: str = "auto") -> AsyncIterator[Client]:
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
            transport = streamable_http_client(service.url, http_client=http)
            async with Client(transport, mode=mode, read_timeout_seconds=30) as client:
                yield client

    return connected


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    answer = await client.call_tool(tool, arguments)
    return answer.content[0].text if answer.is_error else answer.structured_content


@pytest.mark.parametrize("mode", ERAS)
async def test_coordinators_with_tokens_share_a_pool_and_see_whose_tasks_are_whose(
    service: Service, connect: Connect, mode: str
) -> None:
    ada, bob = service.token("read,submit", "ada"), service.token("read submit", "bob")
    async with connect(ada, mode) as one, connect(bob, mode) as other:
        mine = await call(one, "pool_submit", prompt="from ada")
        await call(other, "pool_submit", prompt="from bob")
        listed = await call(other, "pool_list_tasks")
    assert {task["by"]: task["title"] for task in listed["tasks"]} == {"ada": "from ada", "bob": "from bob"}
    with closing(Pool.open(service.config)) as pool:
        assert pool.get(mine["task_id"]).submitter.name == "ada"


@pytest.mark.parametrize("mode", ERAS)
async def test_a_token_allows_what_its_scopes_say_and_no_more(service: Service, connect: Connect, mode: str) -> None:
    async with connect(service.token("read", "looker"), mode) as reader:
        assert (await call(reader, "pool_status"))["slots"] == 0
        assert "needs the scope submit, and has read" in await call(reader, "pool_submit", prompt="x")
        assert "needs the scope admin" in await call(reader, "pool_scale_up")
        assert (await reader.read_resource("pool://status")).contents
    async with connect(service.token("submit", "writer"), mode) as writer:
        assert "needs the scope read" in await call(writer, "pool_status")
        with pytest.raises(Exception, match="needs the scope read"):
            await writer.read_resource("pool://status")


async def test_a_wait_is_ended_by_an_event_that_another_coordinator_caused(service: Service, connect: Connect) -> None:
    token = service.token("read,submit", "ada")
    waited: list[Any] = []
    async with connect(token) as one, connect(token) as other:
        task_id = (await call(one, "pool_submit", prompt="x"))["task_id"]

        async def wait() -> None:
            waited.append(await call(one, "pool_wait", ids=[task_id]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await call(other, "pool_cancel", task_id=task_id)
    assert waited[0]["finished"] == [{"id": task_id, "state": "cancelled", "error": "cancelled"}]


async def test_without_a_token_of_this_pool_nobody_comes_in(service: Service) -> None:
    good = service.token("read", "ada")
    post = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"Accept": "application/json, text/event-stream"}
    async with httpx2.AsyncClient(headers=accept) as http:
        for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {good}"}):
            answer = await http.post(service.url, json=post, headers=headers)
            assert answer.status_code == 401
            assert "WWW-Authenticate" in answer.headers
        known = {"Authorization": f"Bearer {good}"}
        evil = await http.post(service.url, json=post, headers={**known, "Origin": "http://evil.example"})
        assert evil.status_code == 403
        rebound = await http.post(service.url, json=post, headers={**known, "Host": "evil.example"})
        assert rebound.status_code == 421


async def test_a_revoked_token_stops_working_at_once(service: Service, connect: Connect) -> None:
    token = service.token("read", "ada")
    listed = await anyio.run_process([PROGRAM, "--list-tokens"], env=service.env)
    token_id, name, scopes = listed.stdout.decode().split()
    assert (name, scopes) == ("ada", "read")
    async with connect(token) as client:
        assert await call(client, "pool_status")
        await anyio.run_process([PROGRAM, "--revoke-token", token_id], env=service.env)
    async with httpx2.AsyncClient() as http:
        answer = await http.post(service.url, json={}, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_it_ends_gracefully_while_a_call_waits(
    service: Service, connect: Connect, number: signal.Signals, code: int
) -> None:
    token = service.token("read,submit", "ada")
    ended: list[int] = []

    async def end() -> None:
        service.process.send_signal(number)
        ended.append(await anyio.to_thread.run_sync(service.process.wait, 20))

    with anyio.move_on_after(30):
        async with connect(token) as client:
            task_id = (await call(client, "pool_submit", prompt="x"))["task_id"]
            with anyio.move_on_after(25):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_wait_and_lose, client, task_id)
                    await call(client, "pool_status")
                    await end()
                    tasks.cancel_scope.cancel()
    assert ended == [code]
    assert b"Traceback" not in service.process.stderr.read()


async def _wait_and_lose(client: Client, task_id: str) -> None:
    try:
        await client.call_tool("pool_wait", {"ids": [task_id]})
    except Exception:  # noqa: BLE001 - whatever the transport says when its server leaves
        return


def test_an_address_that_is_taken_is_told_in_one_sentence(service: Service) -> None:
    port = service.url.rpartition(":")[2].partition("/")[0]
    done = subprocess.run([PROGRAM, "--http", "--port", port], env=service.env, capture_output=True, check=False)
    assert done.returncode == 4
    assert done.stdout == b""
    assert b"Can't listen on 127.0.0.1" in done.stderr
    assert b"Traceback" not in done.stderr
