"""A pool without any server behind the command line: fake store, doorbells in a list, tasks driven by hand."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from claude_pool.cli.main import main
from claude_pool.config import PREFIX, PoolConfig, load
from claude_pool.ids import new_run_id
from claude_pool.models.events import LogEntry
from claude_pool.models.pool import NodeIdentity, SlotIdentity
from claude_pool.models.task import BranchFacts, ErrorCode, Submitter, TaskError, TaskResult, TaskState
from claude_pool.models.verdict import Verdict
from claude_pool.pool import Pool
from claude_pool.store import fake_store
from claude_pool.store.base import Claim, Doorbell

NODE = "host-a"
LEASE_MS = 60_000


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
class Answer:
    """What one command line gave."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; anything beside it is an error."""
        return json.loads(self.out)


@dataclass
class Slot:
    """Plays a slot: claims a task, starts it, says something, finishes it."""

    pool: Pool
    identity: SlotIdentity

    def start(self, task_id: str) -> str:
        tasks, run_id = self.pool.store.tasks, new_run_id()
        claim = tasks.claim(task_id, self.identity, run_id, lease_ms=LEASE_MS)
        assert isinstance(claim, Claim), claim
        assert tasks.start(task_id, run_id, session_id="5e55-10n")
        return run_id

    def say(self, task_id: str, run_id: str, text: str, kind: Any = "text") -> None:
        self.pool.store.logs.append(task_id, [LogEntry(run_id=run_id, kind=kind, text=text, at_ms=1_700_000_000_000)])

    def finish(self, task_id: str, run_id: str, to: TaskState = TaskState.COMPLETED, **result: Any) -> None:
        error = TaskError(code=ErrorCode.MODEL_NOT_FOUND, message="no such model", hint="Try haiku.")
        failed = error if to is TaskState.FAILED else None
        given = TaskResult(
            task_id=task_id, state=to, run_id=run_id, session_id="5e55-10n", error=failed, node=NODE, **result
        )
        verdict = Verdict(to=to, result=given, cost_usd=0.0125, session_id="5e55-10n", error=failed)
        assert self.pool.store.tasks.finish(task_id, run_id, verdict) is not None

    def do(self, task_id: str, to: TaskState = TaskState.COMPLETED, **result: Any) -> None:
        self.finish(task_id, self.start(task_id), to, **result)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of our own, without settings of the user's."""

    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.setenv(PREFIX + "HOME", str(tmp_path / "home"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def config(place: Path) -> PoolConfig:
    return load(node=NODE)[0]


@pytest.fixture
def pool(config: PoolConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    store = fake_store(config)
    store.pool.prepare(epoch=None)
    found = Pool(config, store, Bells(), submitter=Submitter(name="ada", kind="cli"))
    monkeypatch.setattr(Pool, "open", lambda *_given, **_settings: found)
    yield found
    found.hub.close()
    store.close()


@pytest.fixture
def bells(pool: Pool) -> Bells:
    assert isinstance(pool._broker, Bells)
    return pool._broker


@pytest.fixture
def slot(pool: Pool) -> Slot:
    """A node with one slot."""
    node = NodeIdentity(node=NODE, incarnation="n1", host="host-a", pid=77, version="0", protocol=1, slots=1)
    pool.store.slots.register_node(node, lease_ms=LEASE_MS)
    identity = SlotIdentity(slot_id=f"slot-0@{NODE}", node=NODE, number=0, incarnation="s1", pid=78)
    pool.store.slots.register_slot(identity, lease_ms=LEASE_MS)
    return Slot(pool, identity)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Carry out a command line."""

    def call(*arguments: str, stdin: bytes = b"") -> Answer:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        code = main(arguments)
        told = capsys.readouterr()
        return Answer(code, told.out, told.err)

    return call


@pytest.fixture
def branch() -> BranchFacts:
    return BranchFacts(
        branch="pool/t-x", base="a" * 40, tip="b" * 40, commits=1, files=1, insertions=2, paths=("README.md",)
    )
