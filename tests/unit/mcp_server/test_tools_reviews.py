"""Reviews over MCP: hand in, approve, reject, and when only a person may."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pool.models.task import BranchFacts, MergeOutlook, TaskState
from claude_pool.pool import Pool
from mcp_server.counter import Counter

pytestmark = pytest.mark.anyio

BRANCH = BranchFacts(branch="pool/x", base="a" * 40, tip="b" * 40, repo="/not/here", commits=1, files=1, paths=("a",))


async def submitted(desk: Any, worker: Any, **arguments: Any) -> str:
    answer = await desk.call("pool_submit_with_review", prompt="Do it.", **arguments)
    assert answer["state"] == "pending"
    outlook = MergeOutlook(into="main", into_tip="c" * 40, state="clean")
    worker.do(answer["task_id"], TaskState.PENDING_REVIEW, output="Done.", branch=BRANCH, outlook=outlook)
    return answer["task_id"]


async def test_what_a_reviewer_needs_is_in_the_result_and_the_decision_may_be_bound_to_it(
    connect: Any, pool: Pool, worker: Any
) -> None:
    async with connect() as desk:
        task_id = await submitted(desk, worker, max_rejections=2)
        assert (await desk.call("pool_wait", ids=[task_id]))["finished"][0]["state"] == "pending_review"
        shown = await desk.call("pool_result", task_id=task_id)
        assert shown["outlook"]["state"] == "clean"
        assert "was left at" in await desk.error("pool_approve_result", task_id=task_id, tip="d" * 40)
        answer = await desk.call(
            "pool_approve_result", task_id=task_id, run_id=shown["run_id"], tip=shown["branch"]["tip"]
        )
    assert answer == {"task_id": task_id, "state": "completed"}
    assert pool.get(task_id).submitter.name == "ada"


async def test_a_rejection_counts_and_the_last_one_fails_the_task(connect: Any, worker: Any) -> None:
    async with connect() as desk:
        task_id = await submitted(desk, worker, max_rejections=2)
        first = await desk.call("pool_reject_result", task_id=task_id, feedback="No.")
        assert first == {"task_id": task_id, "state": "pending", "rejections": 1, "max_rejections": 2}
        worker.do(task_id, TaskState.PENDING_REVIEW, output="Done again.")
        assert (await desk.call("pool_reject_result", task_id=task_id, feedback="No."))["state"] == "failed"
        assert "conflict" in await desk.error("pool_reject_result", task_id=task_id, feedback="No.")


async def test_where_a_person_decides_a_coordinator_does_not(connect: Any, counter: Counter, worker: Any) -> None:
    async with connect() as desk:
        task_id = await submitted(desk, worker)
        counter.config = counter.config.model_copy(update={"review_approvers": "person"})
        for tool, more in (("pool_approve_result", {}), ("pool_reject_result", {"feedback": "No."})):
            assert "review_approvers" in await desk.error(tool, task_id=task_id, **more)
        assert (await desk.call("pool_result", task_id=task_id))["state"] == "pending_review"


async def test_the_option_can_not_be_taken_back_by_an_argument(connect: Any, pool: Pool) -> None:
    async with connect() as desk:
        answer = await desk.call("pool_submit_with_review", prompt="x", review=False)
    assert pool.get(answer["task_id"]).options.review


@pytest.mark.parametrize("feedback", ["", "a\x00b"])
async def test_feedback_that_is_none_is_refused_by_name(connect: Any, worker: Any, feedback: str) -> None:
    async with connect() as desk:
        task_id = await submitted(desk, worker)
        assert "feedback" in await desk.error("pool_reject_result", task_id=task_id, feedback=feedback)
