"""Waiting: driven by events, never consuming, bounded, and cheap enough to do two hundred at once."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from claude_pool.models.task import TaskState
from claude_pool.pool import Pool
from mcp_server.tools import wait as waits

pytestmark = pytest.mark.anyio


def submit(pool: Pool, count: int) -> list[str]:
    return [one.task_id for one in pool.submit_many([pool.request(f"task {number}") for number in range(count)])]


async def test_all_waits_for_the_last_and_any_for_the_first(connect: Any, pool: Pool, worker: Any) -> None:
    ids = submit(pool, 2)
    answers: dict[str, dict[str, Any]] = {}

    async def wait(desk: Any, until: str) -> None:
        answers[until] = await desk.call("pool_wait", ids=ids, until=until)

    async with connect() as desk, anyio.create_task_group() as tasks:
        tasks.start_soon(wait, desk, "any")
        tasks.start_soon(wait, desk, "all")
        await anyio.to_thread.run_sync(worker.do, ids[0])
        with anyio.fail_after(20):
            while "any" not in answers:
                await anyio.lowlevel.checkpoint()
        assert "all" not in answers
        await anyio.to_thread.run_sync(worker.do, ids[1], TaskState.FAILED)
    assert answers["any"]["finished"] == [{"id": ids[0], "state": "completed", "cost_usd": 0.0125}]
    assert answers["any"]["running"] == [ids[1]]
    assert [one["state"] for one in answers["all"]["finished"]] == ["completed", "failed"]
    assert answers["all"]["finished"][1]["error"] == "execution"
    assert answers["all"]["running"] == []


async def test_a_wait_consumes_nothing_and_a_cursor_leaves_out_what_was_told(
    connect: Any, pool: Pool, worker: Any
) -> None:
    first, second = submit(pool, 2)
    worker.do(first)
    async with connect() as desk:
        told = await desk.call("pool_wait", ids=[first, second], until="any")
        again = await desk.call("pool_wait", ids=[first, second], until="any")
        assert again["finished"] == told["finished"]
        worker.do(second)
        later = await desk.call("pool_wait", ids=[first, second], until="any", after=told["cursor"])
        assert [one["id"] for one in later["finished"]] == [second]
        nothing = await desk.call("pool_wait", ids=[first, second], until="any", after=later["cursor"])
        assert nothing["finished"] == nothing["running"] == []


async def test_running_out_of_time_is_an_answer(connect: Any, pool: Pool) -> None:
    (task_id,) = submit(pool, 1)
    async with connect() as desk:
        answer = await desk.call("pool_wait", ids=[task_id], timeout_s=0)
    assert answer["timed_out"] is True
    assert answer["running"] == [task_id]


async def test_a_task_that_waits_for_somebody_ends_the_wait(connect: Any, pool: Pool) -> None:
    (task_id,) = submit(pool, 1)
    pool.hold(task_id)
    async with connect() as desk:
        answer = await desk.call("pool_wait", ids=[task_id])
    assert answer["finished"] == [{"id": task_id, "state": "parked", "parked_for": "hold"}]


async def test_an_unknown_id_is_named_together_with_those_there_are(connect: Any, pool: Pool) -> None:
    (task_id,) = submit(pool, 1)
    async with connect() as desk:
        said = await desk.error("pool_wait", ids=["t-0000000000", task_id])
    assert "t-0000000000" in said
    assert f"The latest tasks are {task_id}." in said


@pytest.mark.parametrize("bad", [{"ids": []}, {"ids": "t-1"}, {"ids": ["t-1"], "after": "x"}, {"ids": [""]}, {}])
async def test_a_wait_for_nothing_is_refused(connect: Any, bad: dict[str, Any]) -> None:
    async with connect() as desk:
        assert "invalid_request: " in await desk.error("pool_wait", **bad)


async def test_an_answer_is_bounded_and_its_cursor_leads_to_the_rest(
    connect: Any, pool: Pool, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "MOST_TOLD", 2)
    ids = submit(pool, 3)
    for task_id in ids:
        worker.do(task_id)
    async with connect() as desk:
        head = await desk.call("pool_wait", ids=ids)
        rest = await desk.call("pool_wait", ids=ids, after=head["cursor"])
    assert [one["id"] for one in head["finished"]] == ids[:2]
    assert head["finished_more"] == 1
    assert [one["id"] for one in rest["finished"]] == ids[2:]


@pytest.mark.parametrize("connect", ["auto"], indirect=True)  # threads do not depend on the protocol's era
async def test_two_hundred_waits_at_once_hold_no_thread_each(connect: Any, pool: Pool, worker: Any) -> None:
    ids = submit(pool, 200)
    answers: list[dict[str, Any]] = []

    async def wait(desk: Any, task_id: str) -> None:
        answers.append(await desk.call("pool_wait", ids=[task_id]))

    async with connect() as desk, anyio.create_task_group() as tasks:
        for task_id in ids:
            tasks.start_soon(wait, desk, task_id)
        with anyio.fail_after(30):
            while len(pool.hub._listeners) < 200:
                await anyio.lowlevel.checkpoint()
        assert threading.active_count() < 60
        for task_id in ids:
            await anyio.to_thread.run_sync(pool.cancel, task_id)
    assert sorted(answer["finished"][0]["id"] for answer in answers) == sorted(ids)


async def test_signs_of_life_rise_and_say_counts_only(
    connect: Any, pool: Pool, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_server.counter.BEAT_S", 0.01)
    ids = submit(pool, 2)
    worker.do(ids[0])
    beats: list[tuple[float, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        beats.append((progress, message))
        if len(beats) == 3:
            await anyio.to_thread.run_sync(pool.cancel, ids[1])

    async with connect() as desk:
        await desk.client.call_tool("pool_wait", {"ids": ids}, progress_callback=hear)
    assert [beat for beat, _ in beats[:3]] == [1, 2, 3]
    assert {message for _, message in beats} == {"2 tasks: 1 to go, 1 done"}
