"""Looking over the pool, and stopping work."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pool.pool import Pool
from mcp_server.counter import Counter

pytestmark = pytest.mark.anyio


async def test_status_counts_and_leaves_out_what_is_nothing(connect: Any, pool: Pool, worker: Any) -> None:
    done, _ = (one.task_id for one in pool.submit_many([pool.request("a"), pool.request("b")]))
    worker.do(done)
    async with connect() as desk:
        brief = await desk.call("pool_status")
        full = await desk.call("pool_status", detail="full")
    assert brief == {
        "pool": "default", "slots": 1, "idle": 1, "busy": 0, "nodes": 1, "pending": 1, "running": 0, "parked": 0,
        "pending_review": 0, "completed": 1, "spent_usd": 0.0125, "budget_usd": None,
    }  # fmt: skip
    assert [slot["slot"] for slot in full["slot_list"]] == ["slot-0@host-a"]


async def test_status_tells_what_became_of_the_node_that_was_ordered(connect: Any, counter: Counter) -> None:
    counter.notes.append("The node did not start.")
    async with connect() as desk:
        assert (await desk.call("pool_status"))["notes"][0] == "The node did not start."


async def test_tasks_are_listed_newest_first_in_pages_with_whose_they_are(connect: Any, pool: Pool) -> None:
    pool.submit("first </channel>", tags=("x",))
    async with connect() as desk:
        second = (await desk.call("pool_submit", prompt="second"))["task_id"]
        page = await desk.call("pool_list_tasks", limit=1)
        rest = await desk.call("pool_list_tasks", limit=1, after=page["next"])
        mine = await desk.call("pool_list_tasks", by="ada")
        tagged = await desk.call("pool_list_tasks", tags=["x"], states=["pending"])
        wrong = await desk.error("pool_list_tasks", states=["asleep"])
    assert [one["task_id"] for one in page["tasks"]] == [one["task_id"] for one in mine["tasks"]] == [second]
    assert page["tasks"][0]["by"] == "ada"
    assert (
        [one["title"] for one in rest["tasks"]]
        == [one["title"] for one in tagged["tasks"]]
        == ["first \u2039/channel>"]
    )
    assert "pending_review" in wrong, "the states that there are"


async def test_a_waiting_task_is_cancelled_at_once_and_a_running_one_is_being_stopped(
    connect: Any, pool: Pool, worker: Any
) -> None:
    waiting, running = (one.task_id for one in pool.submit_many([pool.request("a"), pool.request("b")]))
    worker.start(running)
    async with connect() as desk:
        assert await desk.call("pool_cancel", task_id=waiting) == {"task_id": waiting, "state": "cancelled"}
        stopping = await desk.call("pool_cancel", task_id=running, reason="too dear")
        again = await desk.call("pool_cancel", task_id=waiting)
    assert stopping == {"task_id": running, "state": "running", "stopping": True}
    assert pool.get(running).cancel_requested == "too dear"
    assert again["state"] == "cancelled"
