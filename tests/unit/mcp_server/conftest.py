"""A server over a pool without any server behind it: fake store, doorbells in a list, tasks driven by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from claude_pool.config import PoolConfig, load
from claude_pool.ids import new_run_id
from claude_pool.models.events import LogEntry
from claude_pool.models.pool import NodeIdentity, SlotIdentity
from claude_pool.models.task import ErrorCode, Submitter, TaskError, TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.pool import Pool
from claude_pool.store import fake_store
from claude_pool.store.base import Claim, Doorbell
from mcp_server.counter import Counter
from mcp_server.server import build

NODE = "host-a"
LEASE_MS = 60_000
ADA = Submitter(name="ada", kind="mcp")


@dataclass
class Bells:
    """The broker's double: a list."""

    rung: list[Doorbell] = field(default_factory=list)

    def ring(self, bells: Sequence[Doorbell]) -> None:
        self.rung += bells

    def waiting(self, queue: str) -> int:
        return sum(bell.queue == queue for bell in self.rung)

    def close(self) -> None:
        pass


@dataclass
class Worker:
    """Plays a slot: claims a task, starts it, says something, finishes it."""

    pool: Pool
    identity: SlotIdentity

    def start(self, task_id: str) -> str:
        tasks, run_id = self.pool.store.tasks, new_run_id()
        claim = tasks.claim(task_id, self.identity, run_id, lease_ms=LEASE_MS)
        assert isinstance(claim, Claim), claim
        assert tasks.start(task_id, run_id, session_id="5e55-10n")
        return run_id

    def say(self, task_id: str, run_id: str, text: str, **more: Any) -> None:
        self.pool.store.logs.append(task_id, [LogEntry(run_id=run_id, kind="text", text=text, **more)])

    def finish(self, task_id: str, run_id: str, to: TaskState = TaskState.COMPLETED, **result: Any) -> None:
        error = TaskError(code=ErrorCode.EXECUTION, message="it broke <system-reminder>", detail="</x>", hint="Look.")
        failed = error if to is TaskState.FAILED else None
        given = TaskResult(task_id=task_id, state=to, run_id=run_id, error=failed, node=NODE, **result)
        verdict = Verdict(to=to, result=given, cost_usd=0.0125, session_id="5e55-10n", error=failed)
        assert self.pool.store.tasks.finish(task_id, run_id, verdict) is not None

    def do(self, task_id: str, to: TaskState = TaskState.COMPLETED, **result: Any) -> None:
        self.finish(task_id, self.start(task_id), to, **result)


@dataclass
class Desk:
    """A connected client, with answers as plain values."""

    client: Client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        answer = await self.client.call_tool(tool, arguments)
        assert not answer.is_error, answer.content
        assert answer.structured_content is not None
        assert json.loads(answer.content[0].text) == answer.structured_content, "text and structure say the same"
        return answer.structured_content

    async def error(self, tool: str, **arguments: Any) -> str:
        answer = await self.client.call_tool(tool, arguments)
        assert answer.is_error, answer.structured_content
        return answer.content[0].text


Connect = Callable[[], AbstractAsyncContextManager[Desk]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def config(tmp_path: Path) -> PoolConfig:
    return load(home=tmp_path / "home", node=NODE, env={}, cwd=tmp_path)[0]


@pytest.fixture
def make_pool(config: PoolConfig) -> Iterator[Callable[..., Pool]]:
    made: list[Pool] = []

    def make(**settings: Any) -> Pool:
        changed = config.model_copy(update=settings)
        store = fake_store(changed)
        store.pool.prepare(epoch=None)
        made.append(Pool(changed, store, Bells()))
        return made[-1]

    yield make
    for pool in made:
        pool.hub.close()
        pool.store.close()


@pytest.fixture
def pool(make_pool: Callable[..., Pool]) -> Pool:
    return make_pool()


@pytest.fixture
def worker(pool: Pool) -> Worker:
    """A node with one slot."""
    node = NodeIdentity(node=NODE, incarnation="n1", host=NODE, pid=77, version="0", protocol=1, slots=1, max_slots=4)
    pool.store.slots.register_node(node, lease_ms=LEASE_MS)
    identity = SlotIdentity(slot_id=f"slot-0@{NODE}", node=NODE, number=0, incarnation="s1", pid=78)
    pool.store.slots.register_slot(identity, lease_ms=LEASE_MS)
    return Worker(pool, identity)


@pytest.fixture
def counter(pool: Pool) -> Counter:
    return Counter(pool.config, submitter=ADA, pool=pool)


@pytest.fixture(params=["auto", "legacy"])
def connect(request: pytest.FixtureRequest, counter: Counter) -> Connect:
    """`async with connect() as desk`, once in each era of the protocol."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[Desk]:
        async with Client(build(counter), mode=request.param, read_timeout_seconds=30) as client:
            yield Desk(client)

    return connected
