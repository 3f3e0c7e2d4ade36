"""The documents that programs rely on: whole, as golden values."""

from __future__ import annotations

import json

import pytest

from claude_pool import documents as of
from claude_pool.desks.tasks import Waited
from claude_pool.errors import Unreachable
from claude_pool.models.events import LogEntry
from claude_pool.models.options import TaskOptions
from claude_pool.models.pool import DrainSummary, Finding, Node, NodeIdentity, NodeOrders, PoolStatus, Slot, SlotState
from claude_pool.models.run import ExitFacts, ModelUsage, Usage
from claude_pool.models.task import BranchFacts, ErrorCode, ParkedFor, Task, TaskError, TaskResult, TaskState
from claude_pool.store.base import Page, Submitted

TASK = Task(
    id="t-0000000001",
    state=TaskState.RUNNING,
    title="Say hello",
    options=TaskOptions(tags=("a",)),
    created_ms=1000,
    since_ms=2000,
    queue="tasks",
    slot="slot-0@host-a",
    progress="Read a.txt",
    cost_usd=0.5,
)
DONE = TASK.evolve(state=TaskState.COMPLETED, slot=None, progress="")


def test_a_submitted_task() -> None:
    answer = Submitted(task_id="t-0000000001", state=TaskState.PENDING, created=True)
    assert of.of_submitted(answer) == {"task_id": "t-0000000001", "state": "pending"}
    assert of.of_submitted(answer.evolve(created=False))["created"] is False


def test_a_task() -> None:
    assert of.of_task(TASK) == {
        "task_id": "t-0000000001",
        "state": "running",
        "title": "Say hello",
        "created_ms": 1000,
        "since_ms": 2000,
        "cost_usd": 0.5,
        "tags": ["a"],
        "slot": "slot-0@host-a",
        "progress": "Read a.txt",
    }


def test_a_parked_task_says_for_what_and_until_when() -> None:
    parked = TASK.evolve(state=TaskState.PARKED, parked_for=ParkedFor.RETRY, until_ms=9000)
    assert {"parked_for": "retry", "until_ms": 9000}.items() <= of.of_task(parked).items()


def test_the_least_that_a_result_has() -> None:
    assert of.of_result(TaskResult(task_id="t-0000000001", state=TaskState.COMPLETED)) == {
        "task_id": "t-0000000001",
        "state": "completed",
        "output": "",
        "cost_usd": 0.0,
        "session_id": None,
    }


def test_a_full_result() -> None:
    result = TaskResult(
        task_id="t-0000000001",
        state=TaskState.FAILED,
        output="half",
        partial=True,
        structured_output={"a": [1]},
        error=TaskError(code=ErrorCode.TIMEOUT, message="too long"),
        cost_usd=0.25,
        usage=Usage(input_tokens=10),
        model_usage={"haiku": ModelUsage(input_tokens=10, cost_usd=0.25)},
        session_id="s",
        exit=ExitFacts(signal=15),
        branch=BranchFacts(branch="pool/t", base="b", tip="t", commits=1),
        output_bytes=4,
        simulated=True,
    )
    assert of.of_result(result) == {
        "task_id": "t-0000000001",
        "state": "failed",
        "output": "half",
        "cost_usd": 0.25,
        "session_id": "s",
        "partial": True,
        "structured_output": {"a": [1]},
        "error": {"code": "timeout", "message": "too long"},
        "usage": {"input_tokens": 10},
        "model_usage": {"haiku": {"input_tokens": 10, "cost_usd": 0.25}},
        "exit": {"signal": 15},
        "branch": {
            "branch": "pool/t", "base": "b", "tip": "t", "commits": 1, "files": 0, "insertions": 0, "deletions": 0,
        },
        "simulated": True,
    }  # fmt: skip


def test_a_wait() -> None:
    waited = Waited(finished=(DONE,), running=("t-0000000002",), cursor="7-0", timed_out=True)
    assert of.of_waited(waited) == {
        "finished": [{"id": "t-0000000001", "state": "completed"}],
        "running": ["t-0000000002"],
        "cursor": "7-0",
        "timed_out": True,
    }


def test_a_page() -> None:
    assert of.of_page(Page(tasks=(TASK,), next="t-0000000001")) == {
        "tasks": [of.of_task(TASK)],
        "next": "t-0000000001",
    }


def test_a_cancel() -> None:
    assert of.of_cancelled([DONE.evolve(state=TaskState.CANCELLED), TASK.evolve(cancel_requested="enough")]) == {
        "cancelled": [
            {"task_id": "t-0000000001", "state": "cancelled"},
            {"task_id": "t-0000000001", "state": "running", "stopping": True},
        ]
    }


def test_a_status_without_and_with_its_slots() -> None:
    status = PoolStatus(pool="p", slots=1, busy=1, nodes=1, running=1, spent_usd=0.5, budget_usd=2.0)
    least = {"slots", "idle", "busy", "pending", "running", "parked", "pending_review", "spent_usd", "budget_usd"}
    document = of.of_status(status)
    assert least <= set(document)
    assert not {"slot_list", "node_list", "notes", "simulated"} & set(document)
    slot = Slot(slot_id="slot-0@host-a", node="host-a", number=0, state=SlotState.BUSY, pid=9, task_id=TASK.id)
    identity = NodeIdentity(
        node="host-a", incarnation="i", host="h", pid=8, version="1", protocol=1, slots=1, simulated=True
    )
    node = Node(identity=identity, orders=NodeOrders(slots=1), alive=True)
    document = of.of_status(status, slots=[slot], nodes=[node], tasks={TASK.id: TASK})
    assert document["slot_list"] == [
        {
            "slot": "slot-0@host-a", "node": "host-a", "state": "busy", "task_id": "t-0000000001",
            "title": "Say hello", "progress": "Read a.txt", "pid": 9,
        }
    ]  # fmt: skip
    assert document["node_list"] == [
        {
            "node": "host-a", "host": "h", "pid": 8, "version": "1", "slots": 1, "mode": "run", "alive": True,
            "simulated": True,
        }
    ]  # fmt: skip


def test_a_log_line() -> None:
    entry = LogEntry(id="1-0", at_ms=5, run_id="r", kind="tool", text="a.txt", tool="Read")
    assert of.of_log(entry) == {
        "id": "1-0", "at_ms": 5, "run_id": "r", "kind": "tool", "text": "a.txt", "tool": "Read",
    }  # fmt: skip


def test_findings_are_healthy_unless_one_is_an_error() -> None:
    fine, bad = (Finding(name="git", health=health, detail="d") for health in ("warning", "error"))
    assert of.of_findings([fine]) == {
        "healthy": True,
        "findings": [{"name": "git", "health": "warning", "detail": "d", "hint": ""}],
    }
    assert of.of_findings([fine, bad])["healthy"] is False


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (None, None),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("rediss://ada:s3cret@redis:6379/0", "rediss://***@redis:6379/0"),
        ("redis://:s3cret@redis", "redis://***@redis"),
        ("unix:///run/redis.sock?db=1&password=s3cret", "unix:///run/redis.sock?db=1&password=***"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str | None, shown: str | None) -> None:
    assert of.masked(url) == shown
    told = json.dumps(of.of_settings({"redis_url": url, "slots": 2}, {"slots": "CLAUDE_POOL_SLOTS"}))
    assert "s3cret" not in told


def test_settings_have_value_and_origin() -> None:
    document = of.of_settings({"slots": 2, "name": "p"}, {"slots": "CLAUDE_POOL_SLOTS"})
    assert document["settings"] == {
        "slots": {"value": 2, "origin": "CLAUDE_POOL_SLOTS"},
        "name": {"value": "p", "origin": "default"},
    }


def test_an_error_and_a_drain() -> None:
    assert of.of_error(Unreachable("gone", hint="look")) == {
        "error": {"code": "unreachable", "message": "gone", "hint": "look"}
    }
    assert set(of.of_drain(DrainSummary())) == set(DrainSummary.model_fields)
