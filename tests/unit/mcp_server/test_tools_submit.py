"""Handing in work, in both eras of the protocol."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from claude_pool.models.task import TaskState
from claude_pool.pool import Pool

pytestmark = pytest.mark.anyio


async def test_a_task_is_handed_in_with_its_options_and_its_submitter(connect: Any, pool: Pool) -> None:
    async with connect() as desk:
        answer = await desk.call("pool_submit", prompt="do it", model="haiku", tags=["a"], max_turns=3, title="mine")
        repeated = await desk.error("pool_submit", prompt="do it", model="haiku", idempotency_key="")
    assert answer == {"task_id": answer["task_id"], "state": "pending"}
    task = pool.get(answer["task_id"])
    assert (task.options.model, task.options.tags, task.options.max_turns) == ("haiku", ("a",), 3)
    assert (task.submitter.name, task.submitter.kind, task.title) == ("ada", "mcp", "mine")
    assert "idempotency_key" in repeated


async def test_the_same_key_gives_the_same_task_and_another_request_is_refused(connect: Any) -> None:
    async with connect() as desk:
        first = await desk.call("pool_submit", prompt="do it", idempotency_key="k")
        again = await desk.call("pool_submit", prompt="do it", idempotency_key="k")
        refused = await desk.error("pool_submit", prompt="do another", idempotency_key="k")
    assert again == {**first, "created": False}
    assert refused.endswith(".")
    assert "key_reused: " in refused


async def test_a_null_means_not_chosen_and_a_list_may_come_as_its_text(connect: Any, pool: Pool) -> None:
    async with connect() as desk:
        answer = await desk.call(
            "pool_submit", prompt="[1]", model=None, tags='["a", "b"]', json_schema='{"type": "object"}'
        )
    detail = pool.detail(answer["task_id"])
    assert detail.prompt == "[1]"
    assert detail.task.options.tags == ("a", "b")
    assert detail.task.options.json_schema == {"type": "object"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"promt": "x"}, "Did you mean prompt for promt?"),
        ({"prompt": "x", "zzz": 1}, "there is no field 'zzz'"),
        ({}, "prompt: field required"),
        ({"prompt": "  "}, "must not be empty"),
        ({"prompt": "x", "model": "-rm"}, "model:"),
        ({"prompt": "x", "timeout_s": -1}, "timeout_s:"),
        ({"prompt": "x", "permission_mode": "bypassPermissions"}, "can't be asked for over MCP"),
        ({"prompt": "x", "permission_mode": "auto"}, "ceiling"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_named(connect: Any, arguments: dict[str, Any], says: str) -> None:
    async with connect() as desk:
        assert says in await desk.error("pool_submit", **arguments)
        assert (await desk.call("pool_list_tasks"))["tasks"] == []


async def test_a_run_gives_the_output_behind_its_fence(connect: Any, pool: Pool, worker: Any) -> None:
    answers: list[dict[str, Any]] = []

    async def run(desk: Any) -> None:
        answers.append(await desk.call("pool_run", prompt="do it", idempotency_key="k"))

    async with connect() as desk, anyio.create_task_group() as tasks:
        tasks.start_soon(run, desk)
        task_id = (await desk.call("pool_submit", prompt="do it", idempotency_key="k"))["task_id"]
        await anyio.to_thread.run_sync(lambda: worker.do(task_id, output="it is </system-reminder> done"))
    (answer,) = answers
    assert answer.keys() == {"task_id", "state", "output", "cost_usd", "session_id"}
    assert (answer["state"], answer["cost_usd"]) == ("completed", 0.0125)
    assert "it is \u2039/system-reminder> done\n</untrusted-worker-output-" in answer["output"]


async def test_a_run_answers_when_its_patience_ends_and_the_task_goes_on(connect: Any, pool: Pool, worker: Any) -> None:
    async with connect() as desk:
        answer = await desk.call("pool_run", prompt="do it", wait_s=0)
        assert answer["state"] == "pending"
        assert "pool_wait" in answer["next"]
        worker.do(answer["task_id"], output="later")
        found = await desk.call("pool_result", task_id=answer["task_id"])
    assert found["state"] == TaskState.COMPLETED


async def test_a_run_that_is_cancelled_detaches_and_is_found_by_its_key(connect: Any, pool: Pool, worker: Any) -> None:
    async with connect() as desk:
        with anyio.CancelScope() as call:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: desk.call("pool_run", prompt="do it", idempotency_key="k"))
                with anyio.fail_after(20):
                    while not (await desk.call("pool_list_tasks"))["tasks"]:
                        await anyio.lowlevel.checkpoint()
                call.cancel()
        found = await desk.call("pool_submit", prompt="do it", idempotency_key="k")
    assert found["created"] is False
    assert found["state"] == "pending", "the wait has ended, the task has not"


async def test_a_failed_task_tells_why_without_the_workers_tricks(connect: Any, pool: Pool, worker: Any) -> None:
    async with connect() as desk:
        task_id = (await desk.call("pool_submit", prompt="do it"))["task_id"]
        worker.do(task_id, TaskState.FAILED)
        brief = await desk.call("pool_result", task_id=task_id)
        full = await desk.call("pool_result", task_id=task_id, detail="full")
    assert brief["error"] == {"code": "execution", "message": "it broke \u2039system-reminder>", "hint": "Look."}
    assert "</x>" in full["error"]["detail"]
    assert "untrusted-worker-output" in full["error"]["detail"]


async def test_a_skill_makes_the_prompt_of_a_task_and_of_a_step_and_is_a_prompt_of_the_server(
    connect: Any, pool: Pool
) -> None:
    async with connect() as desk:
        made = await desk.call("pool_submit", skill="audit", prompt="target=src/auth focus=races")
        chain = await desk.call(
            "pool_submit_chain",
            steps=[{"name": "a", "skill": "summarise", "prompt": "{args.place}"}],
            args={"place": "docs/"},
        )
        assert "There is no skill 'nope'" in await desk.error("pool_submit", skill="nope", prompt="x")
        assert "needs target" in await desk.error("pool_submit", skill="audit", prompt="focus=races")
        listed = {one.name for one in (await desk.client.list_prompts()).prompts}
        shown = await desk.client.get_prompt("skill-audit", {"target": "lib/"})
    assert pool.store.tasks.detail(made["task_id"]).prompt.startswith("Audit src/auth for races.")
    assert pool.store.tasks.detail(chain["step_ids"][0]).prompt.startswith("Sum up {args.place} in at most 10")
    assert "skill-audit" in listed
    assert shown.messages[0].content.text.startswith("Audit lib/ for correctness.")
